/** What the bitmaps of an image say of its checkpoints. */
import type { BitmapFacts } from '@strata/bitmap';
import { DiskError } from '@strata/block';
import { type CheckpointName, parseCheckpoint } from './checkpoint-name.ts';

/** What is asked of a bitmap's facts. */
export type CheckpointBitmap = Pick<BitmapFacts, 'name' | 'enabled' | 'inconsistent'>;

/** A checkpoint that an image has. */
export interface Checkpoint extends CheckpointBitmap {
  readonly parts: CheckpointName;
}

/** The checkpoints of one series of an image, oldest first; unfinished ones too. */
export function checkpointsIn(bitmaps: readonly CheckpointBitmap[], series: string): readonly Checkpoint[] {
  return bitmaps
    .flatMap(({ name, enabled, inconsistent }) => {
      const parts = parseCheckpoint(name);
      return parts?.series === series ? [{ name, enabled, inconsistent, parts }] : [];
    })
    .sort((a, b) => a.parts.number - b.parts.number);
}

/**
 * The newest checkpoint; undefined if there is none.
 *
 * @throws {DiskError} invalid where it cannot be relied on: one was interrupted, or two disks' are mixed up
 */
export function newestCheckpoint(checkpoints: readonly Checkpoint[]): Checkpoint | undefined {
  const unfinished = checkpoints.find(({ parts }) => parts.unfinishedOf !== undefined);
  if (unfinished !== undefined) {
    throw new DiskError('invalid', `checkpoint '${unfinished.name}' was interrupted: make a new one`);
  }
  const newest = checkpoints.at(-1);
  const other = checkpoints.find(({ parts }) => parts.disk !== newest?.parts.disk);
  if (other === undefined) return newest;
  throw new DiskError('invalid', `checkpoints '${other.name}' and '${newest?.name}' are of different disks`);
}

/**
 * The checkpoint whose state the disk of an image has that nobody writes; undefined if it has no checkpoint.
 *
 * @param countDirty the dirty bytes of a bitmap
 * @throws {DiskError} invalid if the disk has changed since, or may have
 */
export async function checkpointOfDisk(
  checkpoints: readonly Checkpoint[],
  countDirty: (name: string) => Promise<number>,
): Promise<string | undefined> {
  const newest = newestCheckpoint(checkpoints);
  if (newest === undefined) return undefined;
  const { name, enabled, inconsistent } = newest;
  if (inconsistent || !enabled) {
    const why = inconsistent ? 'was not saved properly' : 'records no more';
    throw new DiskError('invalid', `the bitmap of checkpoint '${name}' ${why}: make a new checkpoint`);
  }
  const dirty = await countDirty(name);
  if (dirty === 0) return name;
  throw new DiskError('invalid', `the disk has changed since checkpoint '${name}': make a new checkpoint`);
}
