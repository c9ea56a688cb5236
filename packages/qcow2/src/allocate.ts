/**
 * Finding host clusters that nobody uses, and making the refcount structures that count them.
 *
 * All of this happens in memory and at once: an allocation is a scan for refcount 0 and a store of 1 with no
 * wait in between, so that no lock is needed; only refcount blocks that must be read first are waited for.
 * The search goes upwards from the lowest cluster that may be free, fills holes, and beyond the last use
 * appends. A region whose refcount block is absent is free as a whole: its first cluster becomes the block,
 * which thereby counts itself. A refcount table that is full moves to the region after it, together with the
 * blocks that count the new table and themselves.
 *
 * Nothing written by an allocation may be relied on before the barrier has written it.
 *
 * Spec: qcow2.txt, "Host cluster management".
 */
import { DiskError } from '@strata/block';
import { damage } from './damage.ts';
import { MAX_REFCOUNT_TABLE_BYTES } from './format.ts';
import { findFreeRun } from './free-run.ts';
import { type Geometry, type HostOffset, hostOffset } from './geometry.ts';
import type { Structures } from './overlap.ts';
import type { Quarantine } from './quarantine.ts';
import type { Refcounts } from './refcounts.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';

const SPEC = 'qcow2.txt, "Host cluster management"';

/** Clusters in a row that were just allocated. */
export interface HostRun {
  readonly at: HostOffset;
  readonly count: number;
  /** Nothing was ever written there: the bytes are zeros without anybody writing them. */
  readonly virgin: boolean;
}

/** What an allocator works on. */
export interface AllocatorParts {
  readonly geometry: Geometry;
  readonly refcounts: Refcounts;
  readonly quarantine: Quarantine;
  readonly structures: Structures;
}

/** Allocates the clusters of one image. */
export class Allocator {
  /** Told of clusters before one of their uses is taken away, for whoever goes on writing into clusters in use. */
  whenReleasing: (first: number, count: number) => void = () => {};
  readonly #parts: AllocatorParts;
  /** No cluster below has refcount 0. */
  #lowestFree = 0;
  /** No cluster from here on was ever written. */
  #virginFrom: number;

  /** @param fileSize the end of the file when the image was opened */
  constructor(parts: AllocatorParts, fileSize: number) {
    this.#parts = parts;
    this.#virginFrom = Math.ceil(fileSize / parts.geometry.clusterSize);
  }

  /**
   * Allocates 1 to `most` clusters in a row.
   *
   * @throws {DiskError} corrupt, no-space
   */
  async allocate(most: number): Promise<HostRun> {
    for (;;) {
      const found = this.tryAllocate(most);
      if (found !== undefined) return found;
      await this.load();
    }
  }

  /** Loads what `tryAllocate` went without. @throws {DiskError} corrupt */
  async load(): Promise<void> {
    const { refcounts, geometry } = this.#parts;
    const blockIndex = Math.floor(this.#lowestFree / geometry.refcountBlockEntries);
    if (blockIndex < refcounts.table.entries) await refcounts.blocks.load(blockIndex);
    else await refcounts.table.loadAll();
  }

  /** The same without waiting; undefined: call `allocate`. @throws {DiskError} corrupt, no-space */
  tryAllocate(most: number): HostRun | undefined {
    const { refcountBlockEntries } = this.#parts.geometry;
    for (;;) {
      const blockIndex = Math.floor(this.#lowestFree / refcountBlockEntries);
      const block = this.#blockFor(blockIndex);
      if (block === undefined) return undefined;
      const index = this.#firstFree(block, this.#lowestFree - blockIndex * refcountBlockEntries);
      this.#lowestFree = blockIndex * refcountBlockEntries + index;
      if (index === refcountBlockEntries) continue;
      const count = this.#freeRun(block, index, most);
      return this.#claim(block, blockIndex, index, count);
    }
  }

  /**
   * Allocates `count` clusters in a row, wherever they are.
   *
   * @throws {DiskError} corrupt, no-space
   */
  async allocateInOneRun(count: number): Promise<HostRun> {
    const { refcounts, geometry } = this.#parts;
    await refcounts.table.loadAll();
    let from = this.#lowestFree;
    for (;;) {
      const { first, absent, missing } = findFreeRun(refcounts, geometry, count, from);
      if (missing === undefined) return this.#claimRun(first, count, absent);
      from = first;
      if (missing < refcounts.table.entries) await refcounts.blocks.load(missing);
      else this.#growTable(missing);
    }
  }

  /** Counts a use of clusters that the caller knows to be free; their refcount blocks exist. @throws {DiskError} corrupt */
  async claim(first: number, count: number): Promise<void> {
    const { refcounts, geometry } = this.#parts;
    const { refcountBlockEntries } = geometry;
    for (let cluster = first; cluster < first + count; ) {
      const region = Math.floor(cluster / refcountBlockEntries);
      const index = cluster - region * refcountBlockEntries;
      const part = Math.min(refcountBlockEntries - index, first + count - cluster);
      while (refcounts.blocks.peek(region) === undefined) await refcounts.blocks.load(region);
      refcounts.fill(this.#checkBlock(refcounts.blocks.peek(region) as ClusterTable), index, part, 1);
      cluster += part;
    }
    this.#used(first, count);
  }

  /** @throws {DiskError} corrupt if clusters with refcount 0 are in use; no-space past the largest offset */
  checkFree(first: number, count: number): void {
    this.#checkPlace(hostOffset(first * this.#parts.geometry.clusterSize), count, 'cluster');
  }

  /**
   * Counts one use more of a cluster whose refcount is in memory, above 0 and below the largest there can be.
   *
   * @throws {DiskError} corrupt
   */
  addUse(cluster: number): void {
    const { refcounts, geometry } = this.#parts;
    const region = Math.floor(cluster / geometry.refcountBlockEntries);
    const block = this.#checkBlock(refcounts.blocks.peek(region) as ClusterTable);
    const index = cluster - region * geometry.refcountBlockEntries;
    refcounts.fill(block, index, 1, refcounts.read(block, index) + 1);
  }

  /** Gives back clusters that no table entry ever led to. */
  async release(run: HostRun): Promise<void> {
    const { clusterSize } = this.#parts.geometry;
    await this.drop(run.at / clusterSize, run.count);
  }

  /** Takes one use away from each of `count` clusters. @throws {DiskError} corrupt */
  async drop(first: number, count: number): Promise<void> {
    for (let done = 0; done < count; ) done += await this.dropSome(first + done, count - done);
  }

  /**
   * Takes one use away from each of the first of `count` clusters, and returns of how many. What has no use
   * left may be allocated again. Nothing has changed if it rejects, but for corrupt.
   *
   * @throws {DiskError} corrupt
   */
  async dropSome(first: number, count: number): Promise<number> {
    const { refcounts, geometry } = this.#parts;
    const { refcountBlockEntries } = geometry;
    const blockIndex = Math.floor(first / refcountBlockEntries);
    const part = Math.min(count, (blockIndex + 1) * refcountBlockEntries - first);
    this.whenReleasing(first, part);
    while (refcounts.blocks.peek(blockIndex) === undefined) await refcounts.blocks.load(blockIndex);
    this.#checkBlock(refcounts.blocks.peek(blockIndex) as ClusterTable);
    this.#lowestFree = Math.min(this.#lowestFree, first);
    refcounts.decrement(first, part);
    return part;
  }

  /** The file was cut to `fileSize` bytes, and refcounts changed beside `drop`. */
  restart(fileSize: number): void {
    this.whenReleasing(0, Number.POSITIVE_INFINITY);
    this.#lowestFree = 0;
    this.#virginFrom = Math.ceil(fileSize / this.#parts.geometry.clusterSize);
  }

  /** The block `blockIndex`, made if there is none; undefined: something must be loaded first. */
  #blockFor(blockIndex: number): ClusterTable | undefined {
    const { refcounts, geometry } = this.#parts;
    if (blockIndex >= refcounts.table.entries) return this.#growTable(blockIndex);
    const block = refcounts.blocks.peek(blockIndex);
    if (block === undefined) return undefined;
    if (block !== NO_TABLE) return this.#checkBlock(block);
    const at = hostOffset(blockIndex * geometry.refcountBlockReach);
    this.#checkPlace(at, 1, 'refcount block');
    const made = refcounts.blocks.create(blockIndex, at);
    refcounts.fill(made, 0, 1, 1);
    this.#used(at / geometry.clusterSize, 1);
    return made;
  }

  /** A block that may be changed. @throws {DiskError} corrupt */
  #checkBlock(block: ClusterTable): ClusterTable {
    const { structures, geometry } = this.#parts;
    if (block === NO_TABLE || block.mayChange) return block;
    structures.check(block.at, geometry.clusterSize, 'refcount block');
    if (this.#parts.refcounts.blocks.isShared(block)) {
      const message = `two entries of the refcount table lead to 0x${block.at.toString(16)}`;
      throw new DiskError('corrupt', message, { offset: block.at, spec: SPEC });
    }
    block.mayChange = true;
    return block;
  }

  /**
   * Moves the full table to the start of the region `blockIndex`, the first that it does not reach, and makes
   * the blocks of the regions that the new table and these blocks lie in.
   */
  #growTable(blockIndex: number): ClusterTable | undefined {
    const { refcounts, quarantine, geometry } = this.#parts;
    const { table, blocks } = refcounts;
    const { clusterSize, refcountBlockEntries, wordsPerCluster } = geometry;
    for (let index = 0; index < table.entries; index += wordsPerCluster)
      if (!table.isLoaded(index)) return undefined;
    const start = blockIndex * refcountBlockEntries;
    const { newBlocks, tableClusters } = sizeOfGrowth(geometry, table.entries, blockIndex);
    if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES)
      throw new DiskError('no-space', 'the image is full: its refcount table cannot grow past 8 MiB');
    const count = tableClusters + newBlocks;
    this.#checkPlace(hostOffset(start * clusterSize), count, 'refcount table');

    quarantine.add(table.at / clusterSize, table.entries / wordsPerCluster);
    table.move(hostOffset(start * clusterSize), tableClusters * wordsPerCluster);
    for (let i = 0; i < newBlocks; i++) {
      const at = hostOffset((start + tableClusters + i) * clusterSize);
      const block = blocks.create(blockIndex + i, at);
      refcounts.fill(block, 0, Math.min(refcountBlockEntries, count - i * refcountBlockEntries), 1);
    }
    this.#used(start, count);
    return blocks.peek(blockIndex);
  }

  #claimRun(first: number, count: number, absent: readonly number[]): HostRun {
    const { refcounts, geometry } = this.#parts;
    const { refcountBlockEntries, clusterSize } = geometry;
    const at = hostOffset(first * clusterSize);
    const all = count + absent.length;
    this.#checkPlace(at, all, 'table');
    absent.forEach((region, i) => {
      refcounts.blocks.create(region, hostOffset((first + count + i) * clusterSize));
    });
    for (let cluster = first; cluster < first + all; ) {
      const region = Math.floor(cluster / refcountBlockEntries);
      const index = cluster - region * refcountBlockEntries;
      const part = Math.min(refcountBlockEntries - index, first + all - cluster);
      // Found or made without a wait in between, so it is in memory.
      refcounts.fill(this.#checkBlock(refcounts.blocks.peek(region) as ClusterTable), index, part, 1);
      cluster += part;
    }
    const virgin = first >= this.#virginFrom;
    this.#used(first, all);
    return { at, count, virgin };
  }

  #firstFree(block: ClusterTable, from: number): number {
    const { refcounts, geometry } = this.#parts;
    let index = from;
    while (index < geometry.refcountBlockEntries && refcounts.read(block, index) !== 0) index++;
    return index;
  }

  #freeRun(block: ClusterTable, index: number, most: number): number {
    const { refcounts, geometry } = this.#parts;
    const end = Math.min(index + most, geometry.refcountBlockEntries);
    let next = index + 1;
    while (next < end && refcounts.read(block, next) === 0) next++;
    return next - index;
  }

  #claim(block: ClusterTable, blockIndex: number, index: number, count: number): HostRun {
    const { refcounts, geometry } = this.#parts;
    const first = blockIndex * geometry.refcountBlockEntries + index;
    const at = hostOffset(first * geometry.clusterSize);
    this.#checkPlace(at, count, 'cluster');
    const virgin = first >= this.#virginFrom;
    refcounts.fill(block, index, count, 1);
    this.#used(first, count);
    if (first === this.#lowestFree) this.#lowestFree = first + count;
    return { at, count, virgin };
  }

  #used(first: number, count: number): void {
    this.#virginFrom = Math.max(this.#virginFrom, first + count);
  }

  /** @throws {DiskError} corrupt if clusters with refcount 0 are in use; no-space past the largest offset */
  #checkPlace(at: HostOffset, count: number, what: string): void {
    const { structures, geometry } = this.#parts;
    const length = count * geometry.clusterSize;
    if (at + length > Number.MAX_SAFE_INTEGER)
      throw new DiskError('no-space', 'the image is full: no host offset past 2^53 can be used');
    const structure = at === 0 ? 'qcow2_header' : structures.at(at, length);
    if (structure === undefined) return;
    const message =
      at === 0
        ? `Preventing invalid allocation of ${what} at offset 0`
        : `Preventing invalid allocation of ${what} at 0x${at.toString(16)} (overlaps with ${structure})`;
    throw damage(geometry, message, at, SPEC);
  }
}

/** How large the next refcount table is, and how many blocks count it and themselves. */
function sizeOfGrowth(
  geometry: Geometry,
  entries: number,
  blockIndex: number,
): { readonly newBlocks: number; readonly tableClusters: number } {
  for (let newBlocks = 1; ; newBlocks++) {
    const needed = Math.max(blockIndex + newBlocks, Math.ceil(entries * 1.5));
    const tableClusters = Math.ceil(needed / geometry.wordsPerCluster);
    if (tableClusters + newBlocks <= newBlocks * geometry.refcountBlockEntries)
      return { newBlocks, tableClusters };
  }
}
