/** What a verb is made of: a summary, operands, options, and what it does. Each stands in `commands/`. */
import type { Objects } from './objects/objects.ts';
import type { OptionTable, OptionValues, ParsedLine } from './options.ts';
import type { Terminal } from './terminal.ts';
import type { ThreadUse } from './threads.ts';

/** A command line, ready to be carried out. */
export interface CommandLine<Table extends OptionTable> extends ParsedLine<Table> {
  /** What `--object` defined, in the commands that have `objectRow` as their `objects`. */
  readonly objects: Objects;
}

/** The options of a command line, with the objects in place of their definitions. */
export type Given<Table extends OptionTable> = Omit<OptionValues<Table>, 'objects'> & {
  readonly objects: Objects;
};

/** A verb of the command line, whatever its options. */
export interface Command {
  /** One line, for the help. */
  readonly summary: string;
  /** What follows the options, for the help: `FILE [SIZE]`. */
  readonly operands: string;
  readonly options: OptionTable;
  /** True: the last of several words is an operand whatever it looks like, as in `resize FILE -1G`. */
  readonly endsWithOperand?: true;
  /** Help beyond the options; paragraphs that end in a newline. */
  readonly notes?: string;
  /** What the thread pool has to do; `serving` if not given. */
  threads?(options: OptionValues<OptionTable>): ThreadUse;
  /** The exit status when an `--object` cannot be made; 1 if not given. */
  readonly objectFailure?: number;
  /**
   * Does the work. Resolves to the exit status.
   *
   * @throws {UsageError} @throws {CommandError} @throws {DiskError} which the caller reports
   */
  run(line: CommandLine<OptionTable>, terminal: Terminal): Promise<number>;
}

/** A verb, with `run` typed by its own options. */
export function command<Table extends OptionTable>(
  verb: Omit<Command, 'options' | 'threads' | 'run'> & {
    readonly options: Table;
    readonly threads?: (options: OptionValues<Table>) => ThreadUse;
    readonly run: (line: CommandLine<Table>, terminal: Terminal) => Promise<number>;
  },
): Command {
  // The line handed to `run` is parsed with this very table.
  return verb as unknown as Command;
}
