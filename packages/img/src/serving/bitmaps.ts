/** The dirty bitmaps that an export offers: those of its image and of the images under it. */
import { bitmapStoreOf, bitmapsOf, type DirtyBitmap } from '@strata/bitmap';
import { isDiskError } from '@strata/block';
import type { Chain } from '@strata/chain';
import { type DirtyRuns, dirtyBitmap, type MetaContext } from '@strata/nbd';
import { CommandError, hintOf } from '../report.ts';

/** Which bitmaps are offered. */
export interface BitmapChoice {
  readonly bitmaps: readonly string[];
  readonly allBitmaps: true | undefined;
}

/** The contexts of an export's bitmaps. */
export interface BitmapContexts {
  readonly contexts: readonly MetaContext[];
  /** The bitmaps are busy until this is called. */
  release(): void;
}

/**
 * The contexts of the bitmaps chosen; of two with one name the upper image's. `start` is where on the disk the
 * export begins.
 *
 * @throws {CommandError} if one is not there or cannot be used
 */
export async function bitmapContexts(
  chain: Chain,
  { bitmaps, allBitmaps }: BitmapChoice,
  start: number,
): Promise<BitmapContexts> {
  const found = new Map<string, { readonly image: object; readonly inconsistent: boolean }>();
  for (const { layer } of chain.images) {
    for (const { name, inconsistent } of (await bitmapsOf(layer)?.list()) ?? []) {
      if (!found.has(name)) found.set(name, { image: layer, inconsistent });
    }
  }
  const usable = [...found].filter(([, { inconsistent }]) => !inconsistent).map(([name]) => name);
  const names = new Set([...bitmaps, ...(allBitmaps ? usable : [])]);
  const contexts: MetaContext[] = [];
  const releases: (() => void)[] = [];
  for (const name of names) {
    const image = found.get(name)?.image;
    if (image === undefined) throw new CommandError(`Bitmap '${name}' is not found`);
    contexts.push(dirtyBitmap(name, bitmapRuns(await load(image, name), start)));
    const release = await bitmapStoreOf(image)?.hold(name);
    if (release !== undefined) releases.push(release);
  }
  return { contexts, release: () => releases.forEach((release) => void release()) };
}

async function load(image: object, name: string): Promise<DirtyBitmap> {
  try {
    const bitmap = await bitmapsOf(image)?.load(name);
    if (bitmap === undefined) throw new RangeError(`the image of bitmap ${name} has none`);
    return bitmap;
  } catch (error) {
    if (!isDiskError(error)) throw error;
    throw new CommandError(error.message, { hint: hintOf(error), cause: error });
  }
}

/** The runs of a bitmap by their distance from `start`. An image under a longer one has nothing dirty past its end. */
export function bitmapRuns(bitmap: DirtyBitmap, start: number): DirtyRuns {
  return {
    nextDirty: (offset) => {
      if (start + offset >= bitmap.size) return undefined;
      const run = bitmap.nextDirty(start + offset);
      return run && { offset: run.offset - start, length: run.length };
    },
  };
}
