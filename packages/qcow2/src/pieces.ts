/**
 * Where the bytes of a guest write go: the range is cut into pieces that are each one run in the file.
 *
 * A cluster that has a place of its own keeps it, also where it is reserved for zeros so far; all others get
 * a new one. Finding a place waits for tables, for refcounts of clusters that may be shared, and for nothing
 * else; a piece stays within one L2 table, so that it is linked as a whole.
 */
import { encodeHigh, isExclusive } from './entries.ts';
import type { HostOffset } from './geometry.ts';
import type { Image } from './image.ts';
import { allSubclusters, EntryForm, type L2Entry, placeOf, readL2Entry, storeL2Entry } from './l2-entry.ts';
import { corruptEntry, misplacedEntry } from './mapping.ts';
import type { ClusterTable } from './tables.ts';

/** Guest clusters in a row, of one L2 table, whose bytes go to host clusters in a row. */
export interface Piece {
  readonly cluster: number;
  readonly count: number;
  readonly at: HostOffset;
  /**
   * `in place`: linked, all of it data. `reserved`: linked, and some of it no data yet. `new`: allocated just now.
   */
  readonly state: 'in place' | 'reserved' | 'new';
  /** The host clusters were never written: they are zeros. */
  readonly virgin: boolean;
  /** What the first and the last cluster held before. */
  readonly first: L2Entry;
  readonly last: L2Entry;
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
    const piece = keptPiece(image, table, cluster, index, stop);
    if (piece === 'load refcount') {
      await image.space.loadUses(placeOf(readL2Entry(image.geometry, table.view, index)));
    } else {
      const found = piece ?? (await newPiece(image, table, cluster, index, stop));
      pieces.push(found);
      cluster += found.count;
    }
  }
}

/** The entry `index` of a table that may be followed. @throws {DiskError} corrupt */
export function soundEntry(image: Image, table: ClusterTable, index: number): L2Entry {
  const { geometry } = image;
  const entry = readL2Entry(geometry, table.view, index);
  if (entry.form === EntryForm.corrupt) throw corruptEntry(geometry, table, index);
  if (geometry.externalData && entry.form === EntryForm.placed) {
    const guestAt = (table.index * geometry.l2Entries + index) * geometry.clusterSize;
    if (placeOf(entry) !== guestAt) throw misplacedEntry(geometry, table, index, guestAt);
  }
  return entry;
}

/** Clusters that have a place of their own already; undefined if the first one needs a new place. */
function keptPiece(
  image: Image,
  table: ClusterTable,
  cluster: number,
  index: number,
  stop: number,
): Piece | 'load refcount' | undefined {
  const { geometry, space } = image;
  const first = soundEntry(image, table, index);
  if (first.form !== EntryForm.placed) return undefined;
  const ours = space.isOurs(first.high, first.low);
  if (ours === undefined) return 'load refcount';
  if (!ours) return undefined;
  const at = placeOf(first);
  if (!isExclusive(first.high)) {
    storeL2Entry(geometry, table.view, index, { ...first, high: encodeHigh(at, true) });
    image.l2.changed(table, index * geometry.l2EntrySize, (index + 1) * geometry.l2EntrySize);
  }
  const whole = allSubclusters(geometry);
  const isWhole = first.allocated === whole;
  let last = first;
  let next = index + 1;
  for (; next < stop; next++) {
    const entry = readL2Entry(geometry, table.view, next);
    if (entry.form !== EntryForm.placed || !isExclusive(entry.high)) break;
    if (placeOf(entry) !== at + (next - index) * geometry.clusterSize) break;
    if ((entry.allocated === whole) !== isWhole) break;
    last = entry;
  }
  const count = next - index;
  space.check(at, count * geometry.clusterSize);
  return { cluster, count, at, state: isWhole ? 'in place' : 'reserved', virgin: false, first, last };
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
  const wanted = next - index;
  const old = Array.from({ length: wanted }, (_, i) => readL2Entry(image.geometry, table.view, index + i));
  const { space } = image;
  const run = space.tryAllocate(cluster, wanted) ?? (await space.allocate(cluster, wanted));
  const { at, count, virgin } = run;
  const [first, last] = [old[0] as L2Entry, old[count - 1] as L2Entry];
  return { cluster, count, at, state: 'new', virgin, first, last };
}

/** True if a cluster has no place, or one that it shares. False also where that cannot be told yet. */
export function needsPlace(image: Image, table: ClusterTable, index: number): boolean {
  const entry = readL2Entry(image.geometry, table.view, index);
  if (entry.form === EntryForm.placed) return image.space.isOurs(entry.high, entry.low) === false;
  return entry.form !== EntryForm.corrupt;
}
