/**
 * The next structures of an image, made beside those in use and put in their place at one moment.
 *
 * Snapshots change the refcounts of very many clusters and flags in many tables, and no order of writing those
 * in place leaves an image that is sound at every moment. So they are not changed in place: what changes is
 * written to clusters that nothing uses, new refcount blocks and a new refcount table among them, and one write
 * inside the header's first sector switches to all of it. Before that write the file holds the old image,
 * after it the new one, and neither has a leak: the new refcounts count exactly what the new image uses, and
 * the clusters that only the old one used are free in it.
 *
 * What counts is how often each cluster is used now, and by how much that grows and shrinks. A cluster is free
 * for a new structure if it has no use now and gets none.
 *
 * Spec: qcow2.txt, "Host cluster management".
 */
import { DiskError } from '@strata/block';
import { SparseCounters } from './check/references.ts';
import { encodeHigh, encodeLow, setEntry, tableOf, writeRefcount } from './entries.ts';
import { MAX_REFCOUNT_TABLE_BYTES } from './format.ts';
import { clustersFor, type Geometry, type HostOffset, hostOffset } from './geometry.ts';
import type { TableWrite } from './word-table.ts';

const SPEC = 'qcow2.txt, "Host cluster management"';

/** How often clusters are used now. A region is what one refcount block describes. */
export interface CountsInUse {
  /** Reads the counts of a region. The answer is used at once and until the next region is asked for. */
  region(region: number): Promise<RegionInUse>;
  /** How many regions there are; none of the others has a use. */
  readonly regions: number;
  /** Where the refcount table is, in clusters. */
  readonly table: { readonly first: number; readonly count: number };
  /** Throws if something that the counts do not know is there. */
  guard(at: HostOffset, length: number): void;
  /** True for clusters that no new structure may take though they have no use. */
  isTaken(cluster: number): boolean;
}

/** One region. */
export interface RegionInUse {
  /** The uses of the cluster `index` of the region. */
  readonly uses: (index: number) => number;
  /** The refcount block that holds them, to start from; undefined: a new one is made of the uses. */
  readonly block: { readonly cluster: number; readonly bytes: Uint8Array } | undefined;
}

/** Where the new refcount table is. */
export interface NewRefcountTable {
  readonly at: HostOffset;
  readonly clusters: number;
}

/** The counts of the next structures, and places for these. */
export class Renewal {
  readonly #geometry: Geometry;
  readonly #inUse: CountsInUse;
  readonly #more = new SparseCounters(14);
  readonly #less = new SparseCounters(14);
  /** Regions with a count that changes. */
  readonly #touched = new Set<number>();
  #regions: number;
  /** New places of refcount blocks, by region. */
  readonly #blocks = new Map<number, number>();
  readonly #made = new Set<number>();
  /** No cluster below is free. */
  #lowest = 1;
  #current: RegionInUse | undefined;
  #currentFirst = Number.NaN;

  constructor(geometry: Geometry, inUse: CountsInUse) {
    this.#geometry = geometry;
    this.#inUse = inUse;
    this.#regions = inUse.regions;
  }

  /** Counts `times` more uses of a cluster. */
  add(cluster: number, times = 1): void {
    this.#more.add(cluster, times);
    this.touch(cluster);
  }

  /** Counts `times` fewer. */
  remove(cluster: number, times = 1): void {
    this.#less.add(cluster, times);
    this.touch(cluster);
  }

  /** Has the refcount block of a cluster written anew. */
  touch(cluster: number): void {
    const region = Math.floor(cluster / this.#geometry.refcountBlockEntries);
    this.#touched.add(region);
    this.#regions = Math.max(this.#regions, region + 1);
  }

  /** The uses of a cluster in the next image; undefined: ask `uses`. */
  tryUses(cluster: number): number | undefined {
    const index = cluster - this.#currentFirst;
    if (this.#current === undefined || !(index >= 0 && index < this.#geometry.refcountBlockEntries))
      return undefined;
    return this.#current.uses(index) + this.#more.get(cluster) - this.#less.get(cluster);
  }

  /** The same. @throws {DiskError} corrupt */
  async uses(cluster: number): Promise<number> {
    await this.#enter(Math.floor(cluster / this.#geometry.refcountBlockEntries));
    return this.tryUses(cluster) ?? 0;
  }

  /**
   * Makes sure that the counts are possible, before anything is written.
   *
   * @throws {DiskError} corrupt where a cluster is used that has no use now, or has fewer uses than it loses;
   * invalid where a count would not fit the width
   */
  async judge(): Promise<void> {
    for (const region of this.#touched) {
      const inUse = await this.#enter(region);
      this.#eachChange(region, inUse, () => undefined);
    }
  }

  /** Takes `count` free clusters in a row, the lowest that there are. @throws {DiskError} corrupt, no-space */
  async allocate(count: number): Promise<HostOffset> {
    let first = this.#lowest;
    for (let cluster = first; cluster < first + count; cluster++) {
      const region = Math.floor(cluster / this.#geometry.refcountBlockEntries);
      const uses = this.#tryUsesNow(cluster) ?? (await this.#usesNow(region, cluster));
      if (uses > 0 || this.#more.get(cluster) > 0 || this.#inUse.isTaken(cluster)) first = cluster + 1;
    }
    const { clusterSize } = this.#geometry;
    if ((first + count) * clusterSize > Number.MAX_SAFE_INTEGER)
      throw new DiskError('no-space', 'the image is full: no host offset past 2^53 can be used');
    this.#inUse.guard(hostOffset(first * clusterSize), count * clusterSize);
    if (count === 1) this.#lowest = first + 1;
    for (let cluster = first; cluster < first + count; cluster++) {
      this.add(cluster);
      this.#made.add(cluster);
    }
    return hostOffset(first * clusterSize);
  }

  /** Gives a place to all refcount blocks that change, and to the table. @throws {DiskError} corrupt, no-space */
  async placeRefcounts(): Promise<NewRefcountTable> {
    const { clusterSize } = this.#geometry;
    const { table: old } = this.#inUse;
    for (let i = 0; i < old.count; i++) this.remove(old.first + i);
    let table: NewRefcountTable | undefined;
    for (;;) {
      await this.#placeBlocks();
      const clusters = Math.max(clustersFor(this.#geometry, this.#regions * 8), 1);
      if (table !== undefined && table.clusters >= clusters) return table;
      if (clusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES)
        throw new DiskError('no-space', 'the image is full: its refcount table cannot grow past 8 MiB');
      if (table !== undefined) this.#giveBack(table.at / clusterSize, table.clusters);
      table = { at: await this.allocate(clusters), clusters };
    }
  }

  /** The new refcount blocks, one after another, and at last the table. */
  async *refcountWrites(table: NewRefcountTable): AsyncGenerator<TableWrite> {
    const { clusterSize, refcountOrder } = this.#geometry;
    const words = tableOf(new Uint8Array(table.clusters * clusterSize));
    for (let region = 0; region < this.#inUse.regions; region++) {
      if (this.#blocks.has(region)) continue;
      const { block } = await this.#enter(region);
      if (block === undefined) continue;
      const at = block.cluster * clusterSize;
      setEntry(words, region, encodeHigh(at, false), encodeLow(at));
    }
    for (const [region, cluster] of this.#blocks) {
      const inUse = await this.#enter(region);
      const bytes = inUse.block?.bytes.slice() ?? new Uint8Array(clusterSize);
      const view = tableOf(bytes);
      this.#eachChange(region, inUse, (index, uses) => writeRefcount(view, index, refcountOrder, uses));
      yield { at: cluster * clusterSize, bytes };
      setEntry(words, region, encodeHigh(cluster * clusterSize, false), encodeLow(cluster * clusterSize));
    }
    yield { at: table.at, bytes: new Uint8Array(words.buffer) };
  }

  /** The uses of a cluster now, if its region is the last that was looked at. */
  #tryUsesNow(cluster: number): number | undefined {
    const index = cluster - this.#currentFirst;
    if (this.#current === undefined || !(index >= 0 && index < this.#geometry.refcountBlockEntries))
      return undefined;
    return this.#current.uses(index);
  }

  async #usesNow(region: number, cluster: number): Promise<number> {
    const { uses } = await this.#enter(region);
    return uses(cluster - region * this.#geometry.refcountBlockEntries);
  }

  async #enter(region: number): Promise<RegionInUse> {
    const first = region * this.#geometry.refcountBlockEntries;
    if (this.#current === undefined || this.#currentFirst !== first) {
      this.#current = region < this.#inUse.regions ? await this.#inUse.region(region) : UNUSED;
      this.#currentFirst = first;
    }
    return this.#current;
  }

  async #placeBlocks(): Promise<void> {
    // Each place that is taken changes a count, perhaps one of a region that had no change so far.
    for (const region of this.#touched) {
      if (this.#blocks.has(region)) continue;
      const { block } = await this.#enter(region);
      if (block !== undefined) this.remove(block.cluster);
      this.#blocks.set(region, (await this.allocate(1)) / this.#geometry.clusterSize);
    }
  }

  #giveBack(first: number, count: number): void {
    for (let cluster = first; cluster < first + count; cluster++) {
      this.#more.set(cluster, 0);
      this.#made.delete(cluster);
    }
  }

  /** Hands the counts of a region that the block to start from does not have to `visit`. */
  #eachChange(region: number, inUse: RegionInUse, visit: (index: number, uses: number) => void): void {
    const { refcountBlockEntries, refcountMax, clusterSize } = this.#geometry;
    const first = region * refcountBlockEntries;
    for (let index = 0; index < refcountBlockEntries; index++) {
      const more = this.#more.get(first + index);
      const less = this.#less.get(first + index);
      if (more === 0 && less === 0 && inUse.block !== undefined) continue;
      const now = inUse.uses(index);
      const uses = now + more - less;
      const at = (first + index) * clusterSize;
      if (uses < 0 || (now === 0 && more > 0 && !this.#made.has(first + index))) {
        const message = `the cluster at 0x${at.toString(16)} is in use with a refcount of ${now}`;
        throw new DiskError('corrupt', message, { offset: at, spec: SPEC });
      }
      if (uses > refcountMax) {
        const message = `the refcount of the cluster at 0x${at.toString(16)} would be ${uses}, more than its width holds`;
        throw new DiskError('invalid', message, { offset: at, spec: SPEC });
      }
      if (uses > 0 || inUse.block !== undefined) visit(index, uses);
    }
  }
}

const UNUSED: RegionInUse = { uses: () => 0, block: undefined };
