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
import type { Structures } from './overlap.ts';
import type { Quarantine } from './quarantine.ts';
import type { Refcounts } from './refcounts.ts';
import { type ClusterTable, type ClusterTables, NO_TABLE } from './tables.ts';

/** What links work on. */
export interface LinkParts {
  readonly geometry: Geometry;
  readonly l2: ClusterTables;
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly quarantine: Quarantine;
  readonly structures: Structures;
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

  /** Lets go of what an L2 entry referred to; the entry itself has just been changed in memory. */
  drop(high: number, low: number): void {
    const { geometry, quarantine, compressed } = this.#parts;
    const kind = clusterKind(geometry, high, low);
    if (kind === ClusterKind.data || kind === ClusterKind.zeroAllocated) {
      quarantine.add(clusterIndexOf(geometry, entryOffset(high, low)));
    } else if (kind === ClusterKind.compressed) {
      const { first, count } = compressedClusters(geometry, high, low);
      quarantine.add(first, count);
      compressed.forget(high, low);
    }
  }

  /**
   * Whether the cluster of an entry of kind `data` or `zeroAllocated` is ours alone; undefined: its refcount
   * must be loaded first.
   *
   * @throws {DiskError} corrupt if it is in use with refcount 0
   */
  isOurs(high: number, low: number): boolean | undefined {
    if (isExclusive(high)) return true;
    const { geometry, refcounts } = this.#parts;
    const at = entryOffset(high, low);
    const uses = refcounts.peek(clusterIndexOf(geometry, at));
    return uses === undefined ? undefined : this.#isSingle(uses, at);
  }

  /**
   * How many clusters from `index` on, up to the index `end`, are of this kind, exclusive, and follow each
   * other in the file.
   */
  exclusiveRun(table: ClusterTable, index: number, end: number, kind: ClusterKind): number {
    const { geometry } = this.#parts;
    const { view } = table;
    const at = entryOffset(entryHigh(view, index), entryLow(view, index));
    let next = index;
    for (; next < end; next++) {
      const high = entryHigh(view, next);
      const low = entryLow(view, next);
      if (!isExclusive(high) || clusterKind(geometry, high, low) !== kind) break;
      if (entryOffset(high, low) !== at + (next - index) * geometry.clusterSize) break;
    }
    return next - index;
  }

  /**
   * Where in the file a guest range can be overwritten as it is: its clusters hold data, are exclusive and
   * follow each other. -1 if that is not so, or not known without waiting.
   */
  inPlaceAt(offset: number, length: number): number {
    const { geometry, structures } = this.#parts;
    const { clusterSize, l2Entries } = geometry;
    const cluster = Math.floor(offset / clusterSize);
    const l1Index = Math.floor(cluster / l2Entries);
    const table = this.peek(l1Index);
    if (table === undefined) return -1;
    const index = cluster - l1Index * l2Entries;
    const within = offset - cluster * clusterSize;
    const count = Math.ceil((within + length) / clusterSize);
    if (index + count > l2Entries) return -1;
    if (this.exclusiveRun(table, index, index + count, ClusterKind.data) < count) return -1;
    const at = entryOffset(entryHigh(table.view, index), entryLow(table.view, index)) + within;
    return structures.at(at, length) === undefined ? at : -1;
  }

  #isSingle(uses: number, at: number): boolean {
    if (uses > 0) return uses === 1;
    throw corrupt(at, 'a refcount of 0 belongs to the cluster in use at');
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
