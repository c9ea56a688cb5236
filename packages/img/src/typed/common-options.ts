/**
 * Options that every node of an image can be given, whatever its driver.
 *
 * What only makes another program faster or slower (direct I/O, the name of the node) is judged and has no effect;
 * what would change what is written is obeyed, or refused where it is asked for.
 */
import { DiskError } from '@strata/block';
import type { Scalar } from './flat-options.ts';
import { readSwitch } from './node-options.ts';

/** What every node can be told. */
export interface CommonOptions {
  readonly readOnly: boolean;
  /** Undefined: as the command line says (`-U`). */
  readonly share: boolean | undefined;
  /** Flushes do nothing. */
  readonly noFlush: boolean;
  /** Zeros that are written are looked for. */
  readonly detectZeroes: boolean;
}

const discards = ['off', 'ignore', 'on', 'unmap'];

/** Takes them out of `options`. @throws {DiskError} */
export function takeCommon(options: ReadonlyMap<string, Scalar>): {
  readonly common: CommonOptions;
  readonly rest: ReadonlyMap<string, Scalar>;
} {
  const rest = new Map(options);
  const take = (name: string): Scalar => {
    const value = rest.get(name);
    rest.delete(name);
    return value;
  };
  const takeSwitch = (name: string): boolean | undefined => {
    const value = take(name);
    return value === undefined ? undefined : readSwitch(name, value);
  };
  const takeWord = (name: string, words: readonly string[], refusal: (word: string) => string) => {
    const word = take(name);
    if (word === undefined || words.includes(String(word))) return word;
    throw new DiskError('invalid', refusal(String(word)));
  };
  take('driver');
  take('node-name');
  takeSwitch('auto-read-only');
  takeSwitch('cache.direct');
  takeWord('discard', discards, () => 'Invalid discard option');
  const zeroes = takeWord(
    'detect-zeroes',
    ['off', 'on', 'unmap'],
    (word) => `invalid parameter value: ${word}`,
  );
  const common = {
    readOnly: takeSwitch('read-only') === true,
    share: takeSwitch('force-share'),
    noFlush: takeSwitch('cache.no-flush') === true,
    detectZeroes: zeroes !== undefined && zeroes !== 'off',
  };
  return { common, rest };
}
