/**
 * Where the bytes of a guest write go: the range is cut into pieces that are each one run in the file.
 *
 * A cluster that has a place of its own keeps it, also where it is reserved for zeros so far; all others get
 * a new one. Finding a place waits for tables, for refcounts of clusters that may be shared, and for nothing
 * else; a piece stays within one L2 table, so that it is linked as a whole.
 */
import {
  ClusterKind,
  clusterKind,
  encodeHigh,
  entryHigh,
  entryLow,
  entryOffset,
  isExclusive,
  setEntry,
} from './entries.ts';
import { clusterIndexOf, type HostOffset } from './geometry.ts';
import type { Image } from './image.ts';
import { corruptEntry } from './mapping.ts';
import type { ClusterTable } from './tables.ts';

/** An L2 entry as it was. */
export interface OldEntry {
  readonly high: number;
  readonly low: number;
}

/** Guest clusters in a row, of one L2 table, whose bytes go to host clusters in a row. */
export interface Piece {
  readonly cluster: number;
  readonly count: number;
  readonly at: HostOffset;
  /** `in place`: linked already. `reserved`: linked as zeros, to be linked as data. `new`: allocated just now. */
  readonly state: 'in place' | 'reserved' | 'new';
  /** The host clusters were never written: they are zeros. */
  readonly virgin: boolean;
  /** What the first and the last cluster held before. */
  readonly first: OldEntry;
  readonly last: OldEntry;
}

/**
 * Finds or allocates a place for every cluster of a range that the caller holds, and adds the pieces to
 * `pieces`, where they are if it rejects.
 *
 * @throws {DiskError} corrupt, no-space
 */
export async function planWrite(image: Image, offset: number, end: number, pieces: Piece[]): Promise<void> {
  const { clusterSize, l2Entries } = image.geometry;
  const endCluster = Math.ceil(end / clusterSize);
  for (let cluster = Math.floor(offset / clusterSize); cluster < endCluster; ) {
    const l1Index = Math.floor(cluster / l2Entries);
    const table = image.links.peek(l1Index);
    if (table === undefined) {
      await image.links.make(l1Index);
      continue;
    }
    const index = cluster - l1Index * l2Entries;
    const stop = Math.min(l2Entries, index + endCluster - cluster);
    const piece = presentPiece(image, table, cluster, index, stop);
    if (piece === 'load refcount') {
      await image.refcounts.get(clusterIndexOf(image.geometry, placeOf(table, index)));
    } else {
      const found = piece ?? (await newPiece(image, table, cluster, index, stop));
      pieces.push(found);
      cluster += found.count;
    }
  }
}

/** The entry `index` of a table as it is now. */
export const oldEntry = (table: ClusterTable, index: number): OldEntry => ({
  high: entryHigh(table.view, index),
  low: entryLow(table.view, index),
});

const placeOf = (table: ClusterTable, index: number): HostOffset =>
  entryOffset(entryHigh(table.view, index), entryLow(table.view, index));

/** Clusters that have a place of their own already; undefined if the first one needs a new place. */
function presentPiece(
  image: Image,
  table: ClusterTable,
  cluster: number,
  index: number,
  stop: number,
): Piece | 'load refcount' | undefined {
  const { geometry, links, structures } = image;
  const first = oldEntry(table, index);
  const kind = clusterKind(geometry, first.high, first.low);
  if (kind === ClusterKind.corrupt) throw corruptEntry(geometry, table, index);
  if (kind !== ClusterKind.data && kind !== ClusterKind.zeroAllocated) return undefined;
  const ours = links.isOurs(first.high, first.low);
  if (ours === undefined) return 'load refcount';
  if (!ours) return undefined;
  const at = entryOffset(first.high, first.low);
  if (!isExclusive(first.high)) {
    setEntry(table.view, index, encodeHigh(at, true), first.low);
    image.l2.changed(table, index * 8, index * 8 + 8);
  }
  const count = links.exclusiveRun(table, index, stop, kind);
  structures.check(at, count * geometry.clusterSize);
  const state = kind === ClusterKind.data ? 'in place' : 'reserved';
  return { cluster, count, at, state, virgin: false, first, last: oldEntry(table, index + count - 1) };
}

/** Allocates a place for as many clusters in a row as need one and find one. */
async function newPiece(
  image: Image,
  table: ClusterTable,
  cluster: number,
  index: number,
  stop: number,
): Promise<Piece> {
  let next = index + 1;
  while (next < stop && needsPlace(image, table, next)) next++;
  const old = Array.from({ length: next - index }, (_, i) => oldEntry(table, index + i));
  const wanted = next - index;
  const { at, count, virgin } =
    image.allocator.tryAllocate(wanted) ?? (await image.allocator.allocate(wanted));
  const [first, last] = [old[0] as OldEntry, old[count - 1] as OldEntry];
  return { cluster, count, at, state: 'new', virgin, first, last };
}

function needsPlace(image: Image, table: ClusterTable, index: number): boolean {
  const { high, low } = oldEntry(table, index);
  switch (clusterKind(image.geometry, high, low)) {
    case ClusterKind.unallocated:
    case ClusterKind.zero:
    case ClusterKind.compressed:
      return true;
    case ClusterKind.corrupt:
      return false;
    default:
      return image.links.isOurs(high, low) === false;
  }
}
