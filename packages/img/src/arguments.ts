/**
 * Option rows that several commands have, and the readers of their values: sizes, forms of output, cache modes.
 *
 * What is wrong is said in qemu-img's words, and when the option is met, as it does.
 */
import { parseSize } from '@strata/block';
import type { OptionRow } from './options.ts';
import { CommandError, UsageError } from './report.ts';

/** `-f FMT` of a command with one image. */
export const formatRow = {
  letter: 'f',
  value: 'FMT',
  help: 'format of the image; without it the first bytes tell',
} as const satisfies OptionRow;

/** `-U`. */
export const shareRow = {
  letter: 'U',
  name: 'force-share',
  help: 'read even while another program has the image open for writing',
} as const satisfies OptionRow;

/** `--image-opts`. */
export const imageOptionsRow = {
  name: 'image-opts',
  help: 'FILE is a list of image options, driver=...,file.filename=..., and not a name',
} as const satisfies OptionRow;

/** `--reconnect-delay`, read as milliseconds. */
export const reconnectRow = {
  name: 'reconnect-delay',
  value: 'SECONDS',
  help: 'how long to try to connect anew to an NBD server that was lost; not at all if not given',
  read: (text: string): number => {
    if (/^\d{1,6}$/.test(text)) return 1000 * Number(text);
    throw new UsageError(`Invalid number of seconds '${text}'`);
  },
} as const satisfies OptionRow;

/** `--allow`. */
export const allowRow = {
  name: 'allow',
  value: 'FOLDER',
  help: 'follow names of backing files into FOLDER, beside the folders of the files named here',
  many: true,
} as const satisfies OptionRow;

/** `-q`. */
export const quietRow = { letter: 'q', help: 'print nothing but errors' } as const satisfies OptionRow;

/** `-p`. */
export const progressRow = { letter: 'p', help: 'show progress' } as const satisfies OptionRow;

/** `--output`. */
export const outputRow = {
  name: 'output',
  value: 'human|json',
  help: 'form of the report; for people if not given',
} as const satisfies OptionRow;

/** True for JSON. @throws {UsageError} */
export function wantsJson(output: string | undefined): boolean {
  if (output !== undefined && output !== 'human' && output !== 'json') {
    throw new UsageError('--output must be used with human or json as argument.');
  }
  return output === 'json';
}

/** The one operand of a command with one image. @throws {UsageError} */
export function oneImage(operands: readonly string[]): string {
  const [name, ...more] = operands;
  if (name === undefined || more.length > 0) {
    throw new UsageError('Expecting one image file name', { pointToHelp: true });
  }
  return name;
}

/** Reads a size for what is called `what` in the sentence. */
export function readSize(what: string): (text: string) => number {
  return (text) => {
    const size = parseSize(text);
    if (typeof size === 'number') return size;
    if (size === 'out of range') {
      throw new UsageError(`Invalid ${what} specified. Must be between 0 and ${Number.MAX_SAFE_INTEGER}.`);
    }
    throw new UsageError([
      `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for`,
      'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.',
    ]);
  };
}

/** `-r RATE`. */
export const rateRow = {
  letter: 'r',
  value: 'RATE',
  help: 'move at most so many bytes a second',
  read: readSize('rate limit'),
} as const satisfies OptionRow;

/** The rate of a transfer; 0 is none. */
export function rateOf({ rate }: { readonly rate: number | undefined }): { readonly rate?: number } {
  return rate === undefined || rate === 0 ? {} : { rate };
}

const cacheModes = ['none', 'off', 'writeback', 'writethrough', 'directsync', 'unsafe'];

/**
 * Judges a cache mode. The host's page cache is used whatever it says, and a command flushes before it ends.
 *
 * @param what how the sentence calls the option
 * @throws {CommandError} with the exit status given
 */
export function checkCacheMode(mode: string | undefined, what: string, status = 1): void {
  if (mode !== undefined && !cacheModes.includes(mode)) {
    throw new CommandError(`Invalid ${what}: ${mode}`, { status });
  }
}

/** A row for an option of qemu-img that is not there yet: met, it ends the command. */
export function laterRow<Row extends OptionRow>(row: Row): Row & { readonly read: () => never } {
  const spelled = row.letter === undefined ? `--${row.name}` : `-${row.letter}`;
  const read = (): never => {
    throw new CommandError(`option '${spelled}' is not supported yet`);
  };
  return { ...row, help: `${row.help} (not supported yet)`, read };
}
