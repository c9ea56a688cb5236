/** `convert --bitmaps`: the bitmaps of the source's top image go along, with name, granularity and state. */
import {
  type BitmapFacts,
  type BitmapSource,
  type BitmapStore,
  bitmapStoreOf,
  bitmapsOf,
} from '@strata/bitmap';
import { isDiskError } from '@strata/block';
import type { Chain } from '@strata/chain';
import { supportNamed } from './known-formats.ts';
import { CommandError, complain, UsageError } from './report.ts';
import type { Terminal } from './terminal.ts';

/** Bitmaps that will be copied. */
export interface BitmapsToCopy {
  readonly from: BitmapSource;
  readonly bitmaps: readonly BitmapFacts[];
}

/** Finds what is to be copied before anything is made. @throws {UsageError} @throws {CommandError} */
export async function bitmapsToCopy(
  sources: readonly Chain[],
  format: string,
  skipBroken: boolean,
): Promise<BitmapsToCopy> {
  const [source, more] = sources;
  if (source === undefined || more !== undefined)
    throw new UsageError('Copying bitmaps only possible with single source');
  const from = bitmapsOf(source.images[0]?.layer ?? {});
  if (from === undefined) throw new CommandError('Source lacks bitmap support');
  if (supportNamed(format)?.keepsBitmaps !== true)
    throw new CommandError(`Format driver '${format}' does not support bitmaps`);
  const bitmaps = await from.list();
  const broken = bitmaps.find(({ inconsistent }) => inconsistent);
  if (broken !== undefined && !skipBroken) {
    throw new CommandError(`Cannot copy inconsistent bitmap '${broken.name}'`, {
      hint: "Try --skip-broken-bitmaps, or use 'img bitmap --remove' to delete it\n",
    });
  }
  return { from, bitmaps };
}

/** Adds the bitmaps to the target, whose data has been copied. @throws {CommandError} */
export async function copyBitmaps(
  { from, bitmaps }: BitmapsToCopy,
  target: object,
  terminal: Terminal,
): Promise<void> {
  const store = bitmapStoreOf(target) as BitmapStore;
  for (const { name, granularity, enabled, inconsistent } of bitmaps) {
    if (inconsistent) {
      complain(terminal, `warning: Skipping inconsistent bitmap '${name}'`);
      continue;
    }
    await store.add(name, { granularity, enabled }).catch(failed(`Failed to create bitmap ${name}`));
    try {
      await store.merge(name, await from.load(name));
    } catch (error) {
      await store.remove(name);
      failed(`Failed to populate bitmap ${name}`)(error);
    }
  }
}

function failed(what: string): (error: unknown) => never {
  return (error) => {
    if (!isDiskError(error)) throw error;
    throw new CommandError(`${what}: ${error.message}`, { cause: error });
  };
}
