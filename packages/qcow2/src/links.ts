/**
 * Changing where a guest cluster leads: L2 tables that may be changed, and what an entry lets go of.
 *
 * An L2 table may be changed if it is the active disk's alone. One that does not exist is made, one that a
 * snapshot shares is copied; both are changes of the L1 table in memory, for the next barrier to write. For a
 * table the refcount decides, once, whatever the `exclusive` bit says. For a data cluster the bit is believed
 * where it is set; where it is clear the refcount decides, since what was shared may have become exclusive.
 */
import { DiskError } from '@strata/block';
import type { Allocator } from './allocate.ts';
import type { CompressedReader } from './compress.ts';
import type { DataSpace } from './data-space.ts';
import {
  ClusterKind,
  clusterKind,
  compressedAt,
  compressedMaxLength,
  encodeHigh,
  encodeLow,
  entryHigh,
  entryLow,
  entryOffset,
  isExclusive,
} from './entries.ts';
import { clusterIndexOf, type Geometry } from './geometry.ts';
import { EntryForm, placeOf, readL2Entry, subclusterMask } from './l2-entry.ts';
import type { Structures } from './overlap.ts';
import type { Quarantine } from './quarantine.ts';
import { type Refcounts, refcountZero } from './refcounts.ts';
import { type ClusterTable, type ClusterTables, NO_TABLE } from './tables.ts';

/** What links work on. */
export interface LinkParts {
  readonly geometry: Geometry;
  readonly l2: ClusterTables;
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly quarantine: Quarantine;
  readonly structures: Structures;
  readonly space: DataSpace;
  readonly compressed: CompressedReader;
}

/** The L2 tables of one image, for changing. */
export class Links {
  readonly #parts: LinkParts;
  readonly #making = new Map<number, Promise<void>>();

  constructor(parts: LinkParts) {
    this.#parts = parts;
  }

  /** The L2 table `l1Index` if it is in memory and may be changed. */
  peek(l1Index: number): ClusterTable | undefined {
    const table = this.#parts.l2.peek(l1Index);
    return table?.mayChange === true ? table : undefined;
  }

  /**
   * Sees to it that there is such a table. As with `ClusterTables.load`, call it in a loop around `peek`.
   *
   * @throws {DiskError} corrupt, no-space
   */
  async make(l1Index: number): Promise<void> {
    let making = this.#making.get(l1Index);
    if (making === undefined) {
      making = this.#make(l1Index).finally(() => this.#making.delete(l1Index));
      this.#making.set(l1Index, making);
    }
    await making;
  }

  /** Lets go of what an L2 entry's first word referred to; the entry itself has just been changed in memory. */
  drop(high: number, low: number): void {
    const { geometry, quarantine, space, compressed } = this.#parts;
    const kind = clusterKind(geometry, high, low);
    if (kind === ClusterKind.data || kind === ClusterKind.zeroAllocated) {
      space.drop(entryOffset(high, low));
    } else if (kind === ClusterKind.compressed) {
      const { first, count } = compressedClusters(geometry, high, low);
      quarantine.add(first, count);
      compressed.forget(high, low);
    }
  }

  /**
   * Where in the file a guest range can be overwritten as it is: its clusters hold data, are exclusive and
   * follow each other. -1 if that is not so, or not known without waiting.
   */
  inPlaceAt(offset: number, length: number): number {
    const { geometry, space } = this.#parts;
    const { clusterSize, l2Entries } = geometry;
    const cluster = Math.floor(offset / clusterSize);
    const l1Index = Math.floor(cluster / l2Entries);
    const table = this.peek(l1Index);
    if (table === undefined) return -1;
    const index = cluster - l1Index * l2Entries;
    const within = offset - cluster * clusterSize;
    const count = Math.ceil((within + length) / clusterSize);
    if (index + count > l2Entries) return -1;
    const isPlain = geometry.subclusters === 1;
    const first = isPlain
      ? plainPlace(geometry, table, index, count)
      : subclusterPlace(geometry, table, index, count, within, length);
    if (first < 0) return -1;
    const at = first + within;
    if (geometry.externalData && at !== offset) return -1;
    return space.isSafe(at, length) ? at : -1;
  }

  #isSingle(uses: number, at: number): boolean {
    if (uses > 0) return uses === 1;
    throw refcountZero(at);
  }

  async #make(l1Index: number): Promise<void> {
    const { l2, refcounts, allocator, quarantine, structures, geometry } = this.#parts;
    for (;;) {
      const table = l2.peek(l1Index);
      if (table === undefined) {
        await l2.load(l1Index);
        continue;
      }
      if (table === NO_TABLE) {
        const { at } = allocator.tryAllocate(1) ?? (await allocator.allocate(1));
        l2.create(l1Index, at);
        return;
      }
      structures.check(table.at, geometry.clusterSize, 'active L2 table');
      if (l2.isShared(table)) throw corrupt(table.at, 'two entries of the L1 table lead to');
      const cluster = clusterIndexOf(geometry, table.at);
      const uses = refcounts.peek(cluster);
      if (uses === undefined) {
        await refcounts.get(cluster);
        continue;
      }
      if (this.#isSingle(uses, table.at)) {
        if (!isExclusive(l2.parent.high(l1Index)))
          l2.parent.set(l1Index, encodeHigh(table.at, true), encodeLow(table.at));
        table.mayChange = true;
        return;
      }
      // The table cannot have changed when this resolves: only who holds it exclusively changes it.
      const { at } = allocator.tryAllocate(1) ?? (await allocator.allocate(1));
      l2.create(l1Index, at, table.bytes);
      quarantine.add(cluster);
      return;
    }
  }
}

/** Where `count` clusters from `index` on lie in a row in the file, if all are data and exclusive; otherwise -1. */
function plainPlace(geometry: Geometry, { view }: ClusterTable, index: number, count: number): number {
  const at = entryOffset(entryHigh(view, index), entryLow(view, index));
  for (let i = 0; i < count; i++) {
    const high = entryHigh(view, index + i);
    const low = entryLow(view, index + i);
    if (!isExclusive(high) || clusterKind(geometry, high, low) !== ClusterKind.data) return -1;
    if (entryOffset(high, low) !== at + i * geometry.clusterSize) return -1;
  }
  return at;
}

/** The same for extended entries; of the clusters only the subclusters around the range must hold data. */
function subclusterPlace(
  geometry: Geometry,
  { view }: ClusterTable,
  index: number,
  count: number,
  within: number,
  length: number,
): number {
  const { clusterSize, subclusterSize, subclusters } = geometry;
  const at = placeOf(readL2Entry(geometry, view, index));
  const endInLast = within + length - (count - 1) * clusterSize;
  for (let i = 0; i < count; i++) {
    const entry = readL2Entry(geometry, view, index + i);
    if (entry.form !== EntryForm.placed || !isExclusive(entry.high)) return -1;
    if (placeOf(entry) !== at + i * clusterSize) return -1;
    const first = i === 0 ? Math.floor(within / subclusterSize) : 0;
    const end = i === count - 1 ? Math.ceil(endInLast / subclusterSize) : subclusters;
    const touched = subclusterMask(first, end);
    if ((entry.allocated & touched) >>> 0 !== touched) return -1;
  }
  return at;
}

/** The host clusters that the data of a compressed cluster touches. */
export function compressedClusters(
  geometry: Geometry,
  high: number,
  low: number,
): { readonly first: number; readonly count: number } {
  const at = compressedAt(geometry, high, low);
  const first = clusterIndexOf(geometry, at);
  const last = clusterIndexOf(geometry, at + compressedMaxLength(geometry, high, low) - 1);
  return { first, count: last - first + 1 };
}

function corrupt(at: number, what: string): DiskError {
  const message = `${what} 0x${at.toString(16)}`;
  return new DiskError('corrupt', message, { offset: at, spec: 'qcow2.txt, "Host cluster management"' });
}
