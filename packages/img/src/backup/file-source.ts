/** An image file as what a backup is taken of: the bitmaps of its top image tell what changed. */

import { realpath } from 'node:fs/promises';
import { type BackupSource, checkpointOfDisk, checkpointsIn } from '@strata/backup';
import { bitmapsOf } from '@strata/bitmap';
import { openDisk, paddedDisk, type Wish } from '../open.ts';
import { copyLocks } from '../places/file.ts';

/** What is open is closed with it. */
export interface OpenedSource extends BackupSource, AsyncDisposable {}

/** What the user says of the source. */
export interface SourceWish {
  readonly series: string;
  /** The checkpoint that it is at; undefined: find out. */
  readonly checkpoint: string | undefined;
  /** It does not change while it is read. */
  readonly frozen: boolean;
}

/**
 * Opens an image, so that nobody writes it meanwhile.
 *
 * @throws {CommandError} @throws {DiskError} invalid if the disk has changed since its newest checkpoint
 */
export async function openFileSource(name: string, wish: Wish, of: SourceWish): Promise<OpenedSource> {
  const chain = await openDisk(name, { ...wish, locks: copyLocks });
  try {
    const bitmaps = bitmapsOf(chain.images[0]?.layer ?? {});
    const facts = (await bitmaps?.list()) ?? [];
    const countOf = async (bitmap: string): Promise<number> => (await bitmaps?.load(bitmap))?.count ?? 0;
    const checkpoint = of.checkpoint ?? (await checkpointOfDisk(checkpointsIn(facts, of.series), countOf));
    return {
      disk: paddedDisk(chain),
      name: await nameOf(chain.images[0]?.host.path, name),
      frozen: wish.share !== true,
      checkpoint,
      bitmaps: facts.filter((each) => each.inconsistent || !each.enabled).map((each) => each.name),
      changes: async function* (bitmap) {
        const loaded = await bitmaps?.load(bitmap);
        if (loaded !== undefined) yield* loaded.ranges();
      },
      [Symbol.asyncDispose]: () => chain[Symbol.asyncDispose](),
    };
  } catch (error) {
    await Promise.allSettled([chain[Symbol.asyncDispose]()]);
    throw error;
  }
}

/** The same from wherever the command is run. */
async function nameOf(path: string | undefined, typed: string): Promise<string> {
  return path === undefined ? typed : await realpath(path).catch(() => typed);
}
