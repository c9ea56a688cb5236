/**
 * How often each host cluster is used, as the image's refcount structures say.
 *
 * The values in memory are those of the state in memory: an allocation counts at once, a release once the
 * entry that used the cluster is durably gone (quarantine.ts). A cluster whose block does not exist has
 * refcount 0.
 *
 * Spec: qcow2.txt, "Host cluster management".
 */
import { DiskError, type HostSource } from '@strata/block';
import { describeRefcountTable, readRefcount, writeRefcount } from './entries.ts';
import { type Geometry, type HostOffset, refcountBlockIndexOf, refcountTableIndexOf } from './geometry.ts';
import { type ClusterTable, ClusterTables, NO_TABLE, type TableEntry, type TableKind } from './tables.ts';
import { WordTable } from './word-table.ts';

/** Bytes of clean refcount blocks to keep. */
const CACHE_BYTES = 8 * 1024 * 1024;
const SPEC = 'qcow2.txt, "Host cluster management"';

function refcountBlocks(geometry: Geometry): TableKind {
  return {
    describe: (high, low, index): TableEntry => {
      const entry = describeRefcountTable(geometry, high, low);
      if (entry.kind === 'block') return { kind: 'table', at: entry.at };
      if (entry.kind === 'absent') return { kind: 'none' };
      return { kind: 'corrupt', why: `${entry.why} (reftable index: 0x${index.toString(16)})` };
    },
    spec: SPEC,
    cacheBytes: CACHE_BYTES,
    exclusiveBit: false,
  };
}

/** The error for a cluster or table at `at` that is in use and has a refcount of 0. */
export function refcountZero(at: number): DiskError {
  const message = `a refcount of 0 belongs to the cluster in use at 0x${at.toString(16)}`;
  return new DiskError('corrupt', message, { offset: at, spec: SPEC });
}

/** The refcounts of one image. Clusters are named by their index in the file. */
export class Refcounts {
  readonly table: WordTable;
  readonly blocks: ClusterTables;
  readonly #geometry: Geometry;

  constructor(
    file: HostSource,
    geometry: Geometry,
    place: { readonly refcountTableAt: HostOffset; readonly refcountTableClusters: number },
  ) {
    const entries = place.refcountTableClusters * geometry.wordsPerCluster;
    this.#geometry = geometry;
    this.table = new WordTable(file, place.refcountTableAt, entries);
    this.blocks = new ClusterTables(file, this.table, geometry, refcountBlocks(geometry));
  }

  /** The refcount of a cluster; undefined if its block must be loaded first. */
  peek(cluster: number): number | undefined {
    const block = this.blocks.peek(refcountTableIndexOf(this.#geometry, cluster));
    if (block === undefined) return undefined;
    if (block === NO_TABLE) return 0;
    return this.read(block, refcountBlockIndexOf(this.#geometry, cluster));
  }

  /** The refcount of a cluster. @throws {DiskError} corrupt */
  async get(cluster: number): Promise<number> {
    for (;;) {
      const count = this.peek(cluster);
      if (count !== undefined) return count;
      await this.blocks.load(refcountTableIndexOf(this.#geometry, cluster));
    }
  }

  /** An entry of a block. */
  read(block: ClusterTable, index: number): number {
    return readRefcount(block.view, index, this.#geometry.refcountOrder);
  }

  /** Changes `count` entries of a block from `index` on. `value` fits the width. */
  fill(block: ClusterTable, index: number, count: number, value: number): void {
    const { refcountOrder, refcountBits } = this.#geometry;
    for (let i = index; i < index + count; i++) writeRefcount(block.view, i, refcountOrder, value);
    const from = Math.floor((index * refcountBits) / 8);
    this.blocks.changed(block, from, Math.ceil(((index + count) * refcountBits) / 8));
  }

  /**
   * Takes one use away from each of `count` clusters from `cluster` on, all of one block, which `peek` finds.
   *
   * @throws {DiskError} corrupt if one of them has no use left; those before it have been counted
   */
  decrement(cluster: number, count: number): void {
    const block = this.blocks.peek(refcountTableIndexOf(this.#geometry, cluster));
    const index = refcountBlockIndexOf(this.#geometry, cluster);
    for (let i = 0; i < count; i++) {
      const value = block === undefined || block === NO_TABLE ? 0 : this.read(block, index + i);
      if (block === undefined || !(value > 0 && value <= Number.MAX_SAFE_INTEGER)) {
        const at = (cluster + i) * this.#geometry.clusterSize;
        const what = `the cluster at 0x${at.toString(16)} was in use with a refcount of ${value}`;
        throw new DiskError('corrupt', what, { offset: at, spec: SPEC });
      }
      this.fill(block, index + i, 1, value - 1);
    }
  }
}
