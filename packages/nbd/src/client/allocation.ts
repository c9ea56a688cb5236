/**
 * Asks a server for block status, as seldom as it can.
 *
 * A reply covers as much as was asked for and the server cared to tell; what follows the piece that the caller wanted
 * is kept for the walk to go on with. A walk in small steps asks for more each time. What is kept is dropped
 * when a write of ours begins or ends; a write of somebody else's can make it out of date only until the walk
 * has passed.
 *
 * Spec: proto.md, "Request types", NBD_CMD_BLOCK_STATUS
 */
import { DiskError, type Extent } from '@strata/block';
import type { BlockStatus } from '../protocol/extents.ts';
import type { MetaContextReply } from '../protocol/options.ts';
import { type ContextRun, ContextWalk, ExtentWalk } from './status.ts';

/** Of the NBD specification and of QEMU: what `Extent.kind` and `Extent.depth` are made of. */
export const allocationContext = 'base:allocation';
export const depthContext = 'qemu:allocation-depth';

/** What can be asked, and how. */
export interface StatusSource {
  readonly size: number;
  /** Requests start and end at multiples of it. */
  readonly minimumBlock: number;
  readonly contexts: readonly MetaContextReply[];
  /** The longest range that can be asked about: a multiple of the minimum block. */
  readonly mostAtOnce: number;
  /** One chunk for each of these contexts, and perhaps for others, in any order. */
  ask(offset: number, length: number, contextIds: readonly number[]): Promise<readonly BlockStatus[]>;
}

/** What fits 32 and 53 bits, and is a multiple of every minimum block size. */
export const mostStatus = { compact: 2 ** 32 - 65536, extended: 2 ** 52 };

interface Walk<T> {
  at(offset: number, limit: number): T | undefined;
}

/** What there is to know of an export's ranges. */
export class Allocation {
  readonly #source: StatusSource;
  readonly #extents: Walker<Extent> | undefined;
  readonly #runs = new Map<string, Walker<ContextRun>>();

  constructor(source: StatusSource) {
    this.#source = source;
    const ids = new Map(source.contexts.map(({ name, id }) => [name, id]));
    const find = (statuses: readonly BlockStatus[], name: string): BlockStatus | undefined =>
      statuses.find(({ contextId }) => contextId === ids.get(name));
    if (ids.has(allocationContext) || ids.has(depthContext)) {
      const both = [ids.get(allocationContext), ids.get(depthContext)].filter((id) => id !== undefined);
      this.#extents = new Walker(source, both, (statuses, offset) => {
        return new ExtentWalk(find(statuses, allocationContext), find(statuses, depthContext), offset);
      });
    }
    for (const [name, id] of ids) {
      const walk = (statuses: readonly BlockStatus[], offset: number) =>
        new ContextWalk(find(statuses, name) as BlockStatus, offset);
      this.#runs.set(name, new Walker(source, [id], walk));
    }
  }

  /** As `BlockSource.tryExtentAt`: from what a reply told besides. */
  tryExtentAt(offset: number, limit: number): Extent | undefined {
    if (this.#extents === undefined) return { offset, length: limit, kind: 'data', depth: 1 };
    return this.#extents.tryAt(offset, limit);
  }

  /** As `BlockSource.extentAt`. Without a context that tells, all is data. */
  async extentAt(offset: number, limit: number): Promise<Extent> {
    return this.tryExtentAt(offset, limit) ?? (this.#extents as Walker<Extent>).at(offset, limit);
  }

  /** One run of one context, 1 to `limit` bytes. @throws {DiskError} not-found if it was not negotiated */
  async contextAt(name: string, offset: number, limit: number): Promise<ContextRun> {
    const walker = this.#runs.get(name);
    if (walker === undefined) {
      throw new DiskError('not-found', `the server has no metadata context '${name}' for this export`);
    }
    return walker.tryAt(offset, limit) ?? walker.at(offset, Math.min(limit, this.#source.size - offset));
  }

  /** To be called when a write begins, and again when it ends. */
  changed(): void {
    this.#extents?.forget();
    for (const walker of this.#runs.values()) walker.forget();
  }
}

/** Answers one walk; several at once are right, but not spared any request. */
class Walker<T extends { readonly length: number }> {
  readonly #source: StatusSource;
  readonly #contextIds: readonly number[];
  readonly #begin: (statuses: readonly BlockStatus[], offset: number) => Walk<T>;
  #walk: Walk<T> | undefined;
  /** Counts what `forget` was called. */
  #epoch = 0;
  /** Where the last answer ended. */
  #passed = -1;
  #asked = 0;

  constructor(
    source: StatusSource,
    contextIds: readonly number[],
    begin: (statuses: readonly BlockStatus[], offset: number) => Walk<T>,
  ) {
    this.#source = source;
    this.#contextIds = contextIds;
    this.#begin = begin;
  }

  tryAt(offset: number, limit: number): T | undefined {
    const found = this.#walk?.at(offset, limit);
    if (found !== undefined) this.#passed = offset + found.length;
    return found;
  }

  async at(offset: number, limit: number): Promise<T> {
    const { minimumBlock, mostAtOnce, size } = this.#source;
    const start = offset - (offset % minimumBlock);
    const wanted = Math.max(offset - start + limit, offset === this.#passed ? 2 * this.#asked : 0);
    const rounded = Math.ceil(wanted / minimumBlock) * minimumBlock;
    const length = Math.min(rounded, size - start, mostAtOnce);
    const epoch = this.#epoch;
    this.#asked = length;
    const walk = this.#begin(await this.#source.ask(start, length, this.#contextIds), start);
    if (epoch === this.#epoch) this.#walk = walk;
    const found = walk.at(offset, limit);
    if (found === undefined) {
      throw new DiskError('protocol', `the block status of ${start}+${length} does not reach ${offset}`);
    }
    this.#passed = offset + found.length;
    return found;
  }

  forget(): void {
    this.#epoch++;
    this.#walk = undefined;
  }
}
