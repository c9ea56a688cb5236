/**
 * The one routine that makes the image in the file follow the image in memory, in an order that survives a
 * crash at any point.
 *
 *     data (of the external data file too), refcount blocks | refcount table | header | L2 tables | L1 table | header | then: release
 *
 * Each `|` is a completed flush. What nothing was changed of is skipped with its flush, so that a flush after
 * overwrites in place costs one. At the start the changes of that moment are copied; what changes later is
 * left to the next barrier. Why this order:
 *
 * - An L2 entry changes in memory only after the write of its data has resolved, so the first flush makes
 *   durable all data that the copied entries lead to. Refcounts go with it, with no flush in between: a
 *   refcount without data is a leak and no more, but both must be there before an L2 entry refers to them.
 * - New refcount blocks before the refcount table that leads to them, a moved table before the header that
 *   leads to it, L2 tables before the L1 entries, a moved L1 table before the header.
 * - With lazy refcounts the blocks may wait in memory; then the dirty bit goes with the data (dirty-bit.ts).
 * - What the dropped entries used is released at the end: its refcounts go down in memory, and only from then
 *   on may it be used for something else, or be punched out of the file. The lower refcounts reach the
 *   file with a later barrier; until then a crash leaves leaks.
 *
 * When a step fails, everything that was copied counts as changed again and the caller of `flush` hears of it.
 */
import { type DiskError, type HostFile, isDiskError } from '@strata/block';
import type { Allocator } from './allocate.ts';
import type { DirtyBit } from './dirty-bit.ts';
import type { Geometry } from './geometry.ts';
import { type HeaderPatch, l1Patch, refcountTablePatch } from './header-encode.ts';
import type { ClusterRun, Quarantine } from './quarantine.ts';
import type { Refcounts } from './refcounts.ts';
import { allOf } from './settle.ts';
import type { ClusterTables, TakenTables } from './tables.ts';
import type { TableWrite } from './word-table.ts';

/** What a barrier writes. */
export interface BarrierParts {
  readonly file: HostFile;
  /** Holds the guest's bytes: `file`, or the external data file. */
  readonly data: HostFile;
  readonly geometry: Geometry;
  readonly l2: ClusterTables;
  readonly refcounts: Refcounts;
  readonly quarantine: Quarantine;
  readonly allocator: Allocator;
  readonly dirty: DirtyBit;
  /** Gives released clusters back to the host as well. */
  readonly discardHost: boolean;
}

/** Changes in memory, in bytes, at which a barrier is started, and four times which writers wait for it. */
const PRESSURE_BYTES = 8 * 1024 * 1024;
/** The same for clusters in quarantine. */
const PRESSURE_QUARANTINE_BYTES = 64 * 1024 * 1024;
/** What is taken of refcount blocks that wait. */
const NOTHING: TakenTables = { writes: [], parts: [] };

/** Runs the barriers of one image: one at a time, and one waiting that all later callers share. */
export class Barrier {
  readonly #parts: BarrierParts;
  #running: Promise<void> | undefined;
  #queued: Promise<void> | undefined;
  #stopped: DiskError | undefined;
  /** How many callers want all refcounts in the file. */
  #settling = 0;
  /** How many callers give back to the host what they let go of. */
  #giving = 0;

  constructor(parts: BarrierParts) {
    this.#parts = parts;
  }

  /** True if the file does not hold all that memory does. */
  get isNeeded(): boolean {
    if (this.#stopped !== undefined) return false;
    const { l2, refcounts, quarantine } = this.#parts;
    const blocks = refcounts.blocks.dirtyBytes > 0 && !this.#canDefer();
    return (
      blocks || l2.dirtyBytes > 0 || l2.parent.isDirty || refcounts.table.isDirty || quarantine.clusters > 0
    );
  }

  /** Resolves once all that had resolved before the call is durable. */
  run(): Promise<void> {
    if (this.#running === undefined) return this.#start(() => this.#execute());
    this.#queued ??= this.#runNext();
    return this.#queued;
  }

  /** Resolves once the file holds all that memory does, refcounts too that could have waited. */
  async settle(): Promise<void> {
    this.#settling++;
    try {
      do await this.run();
      while (this.isNeeded);
    } finally {
      this.#settling--;
    }
  }

  /** Runs `work`; what barriers release meanwhile goes back to the host, whatever the image was opened with. */
  async givingBack(work: () => Promise<void>): Promise<void> {
    this.#giving++;
    try {
      await work();
    } finally {
      this.#giving--;
    }
  }

  /** Makes every further barrier fail with `error`: memory and file have come apart. */
  stop(error: DiskError): void {
    this.#stopped = error;
  }

  /** Runs `work`, which writes structures itself, while no barrier runs. */
  async exclusively(work: () => Promise<void>): Promise<void> {
    await this.#idle();
    await this.#start(work);
  }

  /** Keeps changes in memory bounded. Undefined: go on. Otherwise wait for it first. */
  relieve(): Promise<void> | undefined {
    const { l2, refcounts, quarantine, geometry } = this.#parts;
    const tables = (l2.dirtyBytes + refcounts.blocks.dirtyBytes) / PRESSURE_BYTES;
    const freed = (quarantine.clusters * geometry.clusterSize) / PRESSURE_QUARANTINE_BYTES;
    const pressure = Math.max(tables, freed);
    if (pressure < 1) return undefined;
    if (pressure >= 4) return this.run();
    // Nobody waits for this one. If it fails, the changes are still there and the next flush tells.
    if (this.#running === undefined) this.run().catch(() => undefined);
    return undefined;
  }

  async #runNext(): Promise<void> {
    await this.#idle();
    this.#queued = undefined;
    await this.#start(() => this.#execute());
  }

  async #idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running.catch(() => undefined);
  }

  #start(work: () => Promise<void>): Promise<void> {
    const run = work().finally(() => {
      if (this.#running === run) this.#running = undefined;
    });
    this.#running = run;
    return run;
  }

  async #execute(): Promise<void> {
    const { l2, refcounts, quarantine, dirty } = this.#parts;
    const { table, blocks } = refcounts;
    const l1 = l2.parent;
    if (this.#stopped !== undefined) throw this.#stopped;
    if (!this.isNeeded) return this.#flushAll();

    const isDeferring = this.#canDefer();
    const taken = {
      blocks: isDeferring ? NOTHING : blocks.take(),
      table: table.take(),
      l2: l2.take(),
      l1: l1.take(),
    };
    const marks = isDeferring && blocks.dirtyBytes > 0 && !dirty.isSet;
    const freed = quarantine.take();
    const tablePatch = refcountTablePatch(table.at, table.entries / this.#parts.geometry.wordsPerCluster);
    const l1Switch = l1Patch(l1.entries, l1.at);
    try {
      if (marks) await dirty.write(this.#parts.file);
      await this.#write(taken.blocks.writes);
      await this.#flushAll();
      if (marks) dirty.isDurable();
      await this.#writeThrough(taken.table.writes);
      if (taken.table.moved) await this.#switchHeader(tablePatch);
      await this.#writeThrough(taken.l2.writes);
      await this.#writeThrough(taken.l1.writes);
      if (taken.l1.moved) await this.#switchHeader(l1Switch);
    } catch (error) {
      blocks.restore(taken.blocks);
      table.restore(taken.table);
      l2.restore(taken.l2);
      l1.restore(taken.l1);
      quarantine.restore(freed);
      throw error;
    }
    blocks.settle(taken.blocks);
    l2.settle(taken.l2);
    await this.#release(freed);
  }

  /** Makes all data durable, and what was written of the tables. */
  async #flushAll(): Promise<void> {
    const { file, data } = this.#parts;
    if (data === file) return file.flush();
    await allOf([data.flush(), file.flush()]);
  }

  async #write(writes: readonly TableWrite[]): Promise<void> {
    const { file } = this.#parts;
    await allOf(writes.map(({ at, bytes }) => file.write(bytes, at)));
  }

  async #writeThrough(writes: readonly TableWrite[]): Promise<void> {
    if (writes.length === 0) return;
    await this.#write(writes);
    await this.#parts.file.flush();
  }

  async #switchHeader(patch: HeaderPatch): Promise<void> {
    await this.#writeThrough([{ at: patch.offset, bytes: patch.bytes }]);
  }

  /**
   * True if changed refcounts may stay in memory: with lazy refcounts, as long as no block is new and no table
   * has moved, and there are not too many.
   */
  #canDefer(): boolean {
    const { dirty, refcounts } = this.#parts;
    if (!dirty.allowsLaziness || this.#settling > 0 || refcounts.table.isDirty) return false;
    return refcounts.blocks.dirtyBytes < PRESSURE_BYTES;
  }

  async #release(freed: readonly ClusterRun[]): Promise<void> {
    const { allocator, quarantine } = this.#parts;
    const givesBack = this.#parts.discardHost || this.#giving > 0;
    for (const [index, { first, count }] of freed.entries()) {
      allocator.whenReleasing(first, count);
      if (givesBack) await this.#punch(first, count);
      let done = 0;
      try {
        while (done < count) done += await allocator.dropSome(first + done, count - done);
      } catch (error) {
        // What cannot be counted now may be later; what is counted wrongly in the file stays so.
        const rest = isDiskError(error, 'corrupt') ? [] : [{ first: first + done, count: count - done }];
        quarantine.restore([...rest, ...freed.slice(index + 1)]);
        throw error;
      }
    }
  }

  /**
   * Before the refcounts go down, for after that somebody else may write there. It is advice: a host that
   * cannot follow it only keeps the space.
   */
  async #punch(first: number, count: number): Promise<void> {
    const { file, refcounts, geometry } = this.#parts;
    for (let cluster = first; cluster < first + count; ) {
      let last = cluster;
      while (last < first + count && (await refcounts.get(last)) === 1) last++;
      const length = (last - cluster) * geometry.clusterSize;
      if (length > 0) await file.discard(cluster * geometry.clusterSize, length).catch(() => undefined);
      cluster = last + 1;
    }
  }
}
