/** What a backup is taken of: a disk, and what tells which of its ranges changed since when. */
import { DirtyBitmap, type DirtyRange, smallestGranularity } from '@strata/bitmap';
import { type BlockSource, DiskError, eventLoopTurn } from '@strata/block';

/** A disk to take a backup of. What is open stays the caller's. */
export interface BackupSource {
  readonly disk: BlockSource;
  /** What the user calls it, for the manifest. */
  readonly name: string;
  /** It is one point in time, and stays so however often it is read. */
  readonly frozen: boolean;
  /** The checkpoint whose state it is; undefined: none. */
  readonly checkpoint: string | undefined;
  /** The names of the bitmaps that it keeps and that can be asked for. */
  readonly bitmaps: readonly string[];
  /** What is dirty in a bitmap, ascending. @throws {DiskError} not-found, invalid, corrupt, io */
  changes(bitmap: string): AsyncIterable<DirtyRange> | Iterable<DirtyRange>;
  /** Asked when all is copied: that the disk was one point in time until now. @throws {DiskError} if it was not */
  assertFrozen?(): Promise<void>;
}

/** Coarser than this nothing is gained, and small changes would make long reads. */
const coarsest = 1 << 16;
const rangesPerTurn = 10_000;

/**
 * What changed according to any of the bitmaps, as finely as they tell.
 *
 * @throws {DiskError} protocol for ranges outside the disk, and what the source throws
 */
export async function changesOf(source: BackupSource, bitmaps: readonly string[]): Promise<DirtyBitmap> {
  const { size } = source.disk;
  let changed = new DirtyBitmap(size, coarsest);
  let count = 0;
  for (const name of bitmaps) {
    for await (const { offset, length } of source.changes(name)) {
      if (offset + length > size) {
        const message = `bitmap '${name}' tells of ${offset}+${length}, outside of a disk of ${size} bytes`;
        throw new DiskError('protocol', message);
      }
      const end = offset + length === size ? 0 : offset + length;
      const fine = finest(offset, end);
      if (fine < changed.granularity) {
        const finer = new DirtyBitmap(size, fine);
        finer.merge(changed);
        changed = finer;
      }
      changed.set(offset, length);
      if (++count % rangesPerTurn === 0) await eventLoopTurn();
    }
  }
  return changed;
}

/** The largest granularity at whose multiples both positions are. */
function finest(a: number, b: number): number {
  let granularity = coarsest;
  while (granularity > smallestGranularity && (a % granularity !== 0 || b % granularity !== 0))
    granularity /= 2;
  return granularity;
}
