/**
 * What a server said of the status of ranges, walked forward.
 *
 * A reply tells of many runs; who walks a disk asks for them one by one. Each walk has its own cursors into the last
 * reply, so that walks of different contexts do not disturb each other, and what a walk has passed is not told
 * again: by then it may be out of date.
 *
 * Spec: proto.md, "Request types", NBD_CMD_BLOCK_STATUS; "The base: metadata namespace"
 */
import type { Extent, ExtentKind } from '@strata/block';
import type { BlockStatus } from '../protocol/extents.ts';
import { AllocationFlag } from '../protocol/numbers.ts';

/** Walks the runs of one context. */
export class StatusCursor {
  readonly #status: BlockStatus;
  #index = 0;
  #start: number;

  /** @param offset where the first run begins */
  constructor(status: BlockStatus, offset: number) {
    this.#status = status;
    this.#start = offset;
  }

  /** Goes to the run that holds `offset`. False: it was passed already, or the reply does not reach so far. */
  seek(offset: number): boolean {
    if (offset < this.#start) return false;
    while (this.#index < this.#status.lengths.length && offset >= this.end) {
      this.#start = this.end;
      this.#index++;
    }
    return this.#index < this.#status.lengths.length;
  }

  /** The status of this run. */
  get flags(): number {
    return this.#status.flags[this.#index] as number;
  }

  /** Where this run ends. */
  get end(): number {
    return this.#start + (this.#status.lengths[this.#index] as number);
  }
}

/** A run of bytes with one status of one context. */
export interface ContextRun {
  readonly offset: number;
  /** At least 1. */
  readonly length: number;
  /** What they mean is the context's to say. */
  readonly flags: number;
}

/**
 * The longest run from `offset` that every cursor agrees is alike, `limit` bytes at most; `undefined` if a
 * cursor does not know. `key` makes of the cursors' flags what must stay the same.
 */
function runAt(
  cursors: readonly StatusCursor[],
  offset: number,
  limit: number,
  key: () => number,
): { length: number; key: number } | undefined {
  let end = offset;
  let first: number | undefined;
  while (end < offset + limit && cursors.every((cursor) => cursor.seek(end))) {
    const now = key();
    first ??= now;
    if (now !== first) break;
    end = Math.min(...cursors.map((cursor) => cursor.end));
  }
  if (first === undefined) return undefined;
  return { length: Math.min(end - offset, limit), key: first };
}

/** Walks one context. */
export class ContextWalk {
  readonly #cursor: StatusCursor;

  constructor(status: BlockStatus, offset: number) {
    this.#cursor = new StatusCursor(status, offset);
  }

  at(offset: number, limit: number): ContextRun | undefined {
    const run = runAt([this.#cursor], offset, limit, () => this.#cursor.flags);
    return run && { offset, length: run.length, flags: run.key };
  }
}

/** Walks `base:allocation` and `qemu:allocation-depth` together, whichever of them there are; one at least. */
export class ExtentWalk {
  readonly #allocation: StatusCursor | undefined;
  readonly #depth: StatusCursor | undefined;
  readonly #cursors: readonly StatusCursor[];

  constructor(allocation: BlockStatus | undefined, depth: BlockStatus | undefined, offset: number) {
    this.#allocation = allocation && new StatusCursor(allocation, offset);
    this.#depth = depth && new StatusCursor(depth, offset);
    this.#cursors = [this.#allocation, this.#depth].filter((cursor) => cursor !== undefined);
  }

  at(offset: number, limit: number): Extent | undefined {
    const run = runAt(this.#cursors, offset, limit, this.#key);
    if (run === undefined) return undefined;
    const depth = Math.floor(run.key / kinds.length);
    return { offset, length: run.length, kind: kinds[run.key % kinds.length] as ExtentKind, depth };
  }

  /** Depth and kind in one number. Depth 0 outvotes the flags: nobody says anything there. */
  readonly #key = (): number => {
    const depth = this.#depth?.flags ?? 1;
    const kind = depth === 0 ? 'hole' : kindOf(this.#allocation?.flags ?? 0);
    return depth * kinds.length + kinds.indexOf(kind);
  };
}

const kinds: readonly ExtentKind[] = ['hole', 'data', 'zero', 'zero-allocated'];

function kindOf(flags: number): ExtentKind {
  if ((flags & AllocationFlag.zero) === 0) return 'data';
  return (flags & AllocationFlag.hole) === 0 ? 'zero-allocated' : 'zero';
}
