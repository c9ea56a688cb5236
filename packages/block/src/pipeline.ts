/**
 * Runs the steps of a long transfer, several at once, each with a buffer of its own that is used again.
 *
 * Copying and comparing are the same pipeline around different work: pieces come in order, the work on them
 * overlaps, the first failure ends it, and nothing is left running when it ends.
 */
import { DiskError } from './errors.ts';
import { eventLoopTurn } from './extents.ts';
import { paceOf } from './pace.ts';

/** What a long transfer may be told. */
export interface TransferOptions {
  /** Told how far it has come, in bytes of `total`; the last call says `total`, unless it fails. */
  readonly progress?: (done: number, total: number) => void;
  /** Ends it early with `aborted`. */
  readonly signal?: AbortSignal;
  /** Bytes a second, of those that are moved; at least 1. Not bounded if not given. */
  readonly rate?: number;
}

/** A part of the work. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
  /** Bytes that count for the rate; `length` if not given. */
  readonly moved?: number;
}

/** How pieces are made and worked on. */
export interface Pipeline<P extends Piece> {
  /** All bytes of all pieces, and of what `next` passes over. */
  readonly total: number;
  /** How many pieces are worked on at once. */
  readonly parallel: number;
  /** Bytes of a worker's buffers together. */
  readonly bufferSize: number;
  /** The next piece; never called twice at once. `skip` tells of bytes that need no work. Undefined: the end. */
  next(skip: (length: number) => void): Promise<P | undefined>;
  /** Works on one piece. `myTurn` resolves when every earlier piece has called `passOn` or ended. */
  work(piece: P, buffer: Uint8Array, order: Order): Promise<void>;
}

/** For steps that must begin in the order of the pieces. */
export interface Order {
  readonly myTurn: Promise<void>;
  passOn(): void;
}

/** Memory is taken once, page-aligned by the system's allocator, and not from Node's shared slab. */
const newBuffer = (size: number): Uint8Array => Buffer.allocUnsafeSlow(size);

/** Pieces that are done at once, from memory to memory, would otherwise keep timers and signals waiting. */
const PIECES_PER_TURN = 64;

/** Runs a pipeline to its end. @throws {DiskError} aborted, and what the work throws */
export async function runPipeline<P extends Piece>(
  pipeline: Pipeline<P>,
  options: TransferOptions,
): Promise<void> {
  const { progress, signal, rate } = options;
  const pace = rate === undefined ? undefined : paceOf(rate, signal);
  let done = 0;
  let failure: { readonly error: unknown } | undefined;
  let previous: Promise<void> = Promise.resolve();
  let choosing: Promise<unknown> = Promise.resolve();
  let ended = false;
  let pieces = 0;
  const advance = (length: number): void => {
    done += length;
    progress?.(done, pipeline.total);
  };
  const choose = async (): Promise<{ readonly piece: P; readonly order: Order } | undefined> => {
    if (ended || failure) return undefined;
    if (signal?.aborted) throw abortedBy(signal);
    if (++pieces % PIECES_PER_TURN === 0) await eventLoopTurn();
    const piece = await pipeline.next(advance);
    if (piece === undefined) {
      ended = true;
      return undefined;
    }
    const pause = pace?.(piece.moved ?? piece.length);
    if (pause !== undefined) {
      await pause;
      if (signal?.aborted) throw abortedBy(signal);
    }
    const myTurn = previous;
    let passOn = (): void => {};
    previous = new Promise((resolve) => {
      passOn = resolve;
    });
    return { piece, order: { myTurn, passOn } };
  };
  const worker = async (): Promise<void> => {
    let buffer: Uint8Array | undefined;
    for (;;) {
      const chosen = choosing.then(choose);
      choosing = chosen.catch(() => undefined);
      const work = await chosen;
      if (work === undefined) return;
      buffer ??= newBuffer(pipeline.bufferSize);
      try {
        await pipeline.work(work.piece, buffer, work.order);
      } finally {
        work.order.passOn();
      }
      if (!failure) advance(work.piece.length);
    }
  };
  const guarded = async (): Promise<void> => {
    try {
      await worker();
    } catch (error) {
      failure ??= { error };
    }
  };
  await Promise.all(Array.from({ length: pipeline.parallel }, guarded));
  if (failure) throw failure.error;
}

function abortedBy(signal: AbortSignal): DiskError {
  return new DiskError('aborted', 'the transfer was aborted', { cause: signal.reason });
}
