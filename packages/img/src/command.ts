/** What a verb is made of: a summary, operands, options, and what it does. Each stands in `commands/`. */
import type { OptionTable, ParsedLine } from './options.ts';
import type { Terminal } from './terminal.ts';

/** A verb of the command line, whatever its options. */
export interface Command {
  /** One line, for the help. */
  readonly summary: string;
  /** What follows the options, for the help: `FILE [SIZE]`. */
  readonly operands: string;
  readonly options: OptionTable;
  /** Help beyond the options; paragraphs that end in a newline. */
  readonly notes?: string;
  /**
   * Does the work. Resolves to the exit status.
   *
   * @throws {UsageError} @throws {CommandError} @throws {DiskError} which the caller reports
   */
  run(line: ParsedLine<OptionTable>, terminal: Terminal): Promise<number>;
}

/** A verb, with `run` typed by its own options. */
export function command<Table extends OptionTable>(
  verb: Omit<Command, 'options' | 'run'> & {
    readonly options: Table;
    readonly run: (line: ParsedLine<Table>, terminal: Terminal) => Promise<number>;
  },
): Command {
  // The line handed to `run` is parsed with this very table.
  return verb as unknown as Command;
}
