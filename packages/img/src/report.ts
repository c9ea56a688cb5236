/**
 * How a command that cannot go on says so: sentences on standard error, and an exit status.
 *
 * Three kinds reach the end of a command. A `UsageError` is the user's line, a `CommandError` is a finding
 * of the command itself, already worded; a `DiskError` that nobody worded is printed as it is. Anything
 * else is our own bug and keeps its stack.
 */
import { inconsistentUse } from '@strata/bitmap';
import { isDiskError } from '@strata/block';
import type { Terminal } from './terminal.ts';

/** What scripts match on: the program's name in front of every sentence. */
export const programName = 'img';

/** The command line asks for something that cannot be. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly sentences: readonly string[];
  readonly pointToHelp: boolean;

  /** @param sentences each becomes a line of its own. `pointToHelp` adds where to read more. */
  constructor(sentences: string | readonly string[], options: { readonly pointToHelp?: boolean } = {}) {
    const lines = typeof sentences === 'string' ? [sentences] : sentences;
    super(lines.join('\n'));
    this.sentences = lines;
    this.pointToHelp = options.pointToHelp ?? false;
  }
}

/** The command ends without having done its work. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly status: number;
  readonly hint: string;

  /**
   * @param message one sentence, without the program's name
   * @param options `status` is the exit status, 1 unless given; `hint` follows the sentence's line as it is
   */
  constructor(
    message: string,
    options: { readonly status?: number; readonly hint?: string; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = options.status ?? 1;
    this.hint = options.hint ?? '';
  }
}

/** The command line asks for a text, such as a list of what an option takes, and for no work. */
export class Answer extends Error {
  override readonly name = 'Answer';
  readonly text: string;

  /** @param text printed as it is; the exit status is 0 */
  constructor(text: string) {
    super('the command line asks for a text');
    this.text = text;
  }
}

/** What went wrong first, where tidying up afterwards (`using`) failed as well. */
function firstFailure(error: unknown): unknown {
  let first = error;
  while (first instanceof Error && first.name === 'SuppressedError' && 'suppressed' in first) {
    first = first.suppressed;
  }
  return first;
}

/** One line on standard error, behind the program's name. */
export function complain(terminal: Terminal, sentence: string): void {
  terminal.warn(`${programName}: ${sentence}\n`);
}

/** Says what ended the command. Returns the exit status. */
export function reportFailure(terminal: Terminal, failure: unknown): number {
  const error = firstFailure(failure);
  if (error instanceof Answer) {
    terminal.print(error.text);
    return 0;
  }
  if (error instanceof UsageError) {
    for (const sentence of error.sentences) complain(terminal, sentence);
    if (error.pointToHelp) terminal.warn(`Try '${programName} --help' for more information\n`);
    return 1;
  }
  if (error instanceof CommandError) {
    complain(terminal, error.message);
    terminal.warn(error.hint);
    return error.status;
  }
  complain(terminal, isDiskError(error) ? error.message : ((error as Error).stack ?? String(error)));
  terminal.warn(hintOf(error));
  return 1;
}

/** The line that follows the sentence of an error, if there is something to be done about it. */
export function hintOf(error: unknown): string {
  if (!isDiskError(error) || error.context.op !== inconsistentUse) return '';
  return 'Try block-dirty-bitmap-remove to delete this bitmap from disk\n';
}
