/**
 * Copies one disk to another: zeros are passed over or made cheaply, everything else goes through reused
 * buffers, several of them in flight.
 *
 * What lies in the page cache is read at once in the event loop while the thread pool writes the pieces
 * before it, so that both ends work at the same time. Writes begin in the order of the disk, so that formats
 * which allocate as they go lay the image out in order.
 */
import type { BlockDevice, BlockSource, Extent } from './device.ts';
import { inStep, type TransferStep } from './errors.ts';
import { readsAsZeros } from './extents.ts';
import { type Order, type Piece, runPipeline, type TransferOptions } from './pipeline.ts';
import { zeroRunAt } from './zeros.ts';

/** What a copy may be told. */
export interface CopyOptions extends TransferOptions {
  /** The target reads as zeros now: zeros are not written. Otherwise they are made by `zero`. */
  readonly targetIsZero?: boolean;
  /**
   * Blocks of so many bytes are looked at for zeros inside data; 4096 if not given. 0: everything is written out,
   * zeros too, so that the target is fully allocated.
   */
  readonly sparse?: number;
  /**
   * Data that lies as it is in a file is copied to the target's by the host, and not looked through for zeros. Where
   * that cannot be, this and all that follows goes through memory as ever.
   */
  readonly offload?: boolean;
  /** Extents it does not hold for are left as they are in the target. */
  readonly select?: (extent: Extent) => boolean;
  /**
   * The target takes multiples of so many bytes only, but for the end of the disk: zeros and extents that `select`
   * passes over count as such where they fill whole units. 1 if not given; a power of two.
   */
  readonly unit?: number;
  /** Bytes of one read, a multiple of `unit`; 2 MiB if not given. */
  readonly bufferSize?: number;
  /** Pieces in flight; 4 if not given. */
  readonly parallel?: number;
}

/** What a copy did, in bytes of the disk. */
export interface CopyResult {
  readonly written: number;
  readonly zeroed: number;
}

/** Making zeros moves no bytes, so its pieces may be long; but an abort waits for them. */
const LONGEST_ZERO = 1 << 30;
/** The same of what the host copies, which takes its time. */
const LONGEST_OFFLOAD = 16 << 20;

interface CopyPiece extends Piece {
  readonly kind: 'data' | 'offload' | 'zero';
}

/**
 * Makes `target` read as `source` does, over the length of `source`. It does not flush.
 *
 * @throws {RangeError} if `target` is shorter
 * @throws {DiskError} aborted, and what the disks throw; `context.op` says in which step (`TransferStep`),
 *   `context.offset` where on the disk
 */
export async function copy(
  source: BlockSource,
  target: BlockDevice,
  options: CopyOptions = {},
): Promise<CopyResult> {
  const { size } = source;
  if (target.size < size) throw new RangeError(`copying ${size} bytes to a disk of ${target.size}`);
  const { targetIsZero = false, bufferSize = 2 << 20, parallel = 4, select, unit = 1 } = options;
  const sparse = Math.ceil((options.sparse ?? 4096) / unit) * unit;
  let offloads = options.offload === true;
  let at = 0;
  let extent: Extent | undefined;
  let written = 0;
  let zeroed = 0;

  /** `extent` with what follows it and is alike but lies elsewhere, as far as a piece at `start` reaches. */
  const joined = (extent: Extent, start: number): Extent => {
    const most = start - (start % bufferSize) + bufferSize;
    let end = extent.offset + extent.length;
    while (end < most && end < size && end % unit === 0) {
      const more = source.tryExtentAt(end, size - end);
      if (more?.kind !== extent.kind || select?.(more) === false) break;
      end += more.length;
    }
    return { ...extent, length: end - extent.offset };
  };

  const longest = (kind: CopyPiece['kind'], start: number): number => {
    if (kind === 'zero') return LONGEST_ZERO;
    return kind === 'offload' ? LONGEST_OFFLOAD : bufferSize - (start % bufferSize);
  };

  const next = async (skip: (length: number) => void): Promise<CopyPiece | undefined> => {
    while (at < size) {
      if (extent === undefined || at >= extent.offset + extent.length) {
        extent = source.tryExtentAt(at, size - at) ?? (await source.extentAt(at, size - at));
      }
      const isZero = sparse > 0 && readsAsZeros(extent);
      const isPassed = select?.(extent) === false || (isZero && targetIsZero);
      const isOffload = offloads && !isZero && extent.kind === 'data';
      if (!isZero && !isPassed && !isOffload) extent = joined(extent, at);
      const end = extent.offset + extent.length;
      const wholeEnd = isZero || isPassed ? floorTo(end, unit, size) : 0;
      // What does not fill a unit is copied with its neighbours.
      const passed = isPassed && wholeEnd > at;
      const zero = isZero && wholeEnd > at;
      const left = (wholeEnd > at ? wholeEnd : ceilTo(end, unit, size)) - at;
      const kind = zero ? 'zero' : isOffload ? 'offload' : 'data';
      const length = Math.min(left, passed ? left : longest(kind, at));
      const piece: CopyPiece = { offset: at, length, kind, ...(zero && { moved: 0 }) };
      at += length;
      if (!passed) return piece;
      skip(length);
    }
    return undefined;
  };

  const put = (bytes: Uint8Array, offset: number): Promise<void> => {
    written += bytes.length;
    return target.write(bytes, offset).catch(failsIn('write', offset));
  };
  const putZeros = (offset: number, length: number): Promise<void> => {
    zeroed += length;
    return target.zero(offset, length).catch(failsIn('write', offset));
  };
  const putRuns = async (bytes: Uint8Array, offset: number): Promise<void> => {
    const calls: Promise<void>[] = [];
    for (let start = 0; start < bytes.length; ) {
      const run = zeroRunAt(bytes, start, sparse, offset);
      if (!run.zero) calls.push(put(bytes.subarray(start, start + run.length), offset + start));
      else if (!targetIsZero) calls.push(putZeros(offset + start, run.length));
      start += run.length;
    }
    await allDone(calls);
  };

  /** How many of the bytes the host copied. */
  const offload = async ({ offset, length }: CopyPiece): Promise<number> => {
    for (let done = 0; done < length; ) {
      const start = offset + done;
      const place = await source.placeAt?.(start, length - done).catch(failsIn('read', start));
      const isCopied = place && (await target.copyFrom?.(place, start).catch(failsIn('write', start)));
      if (isCopied !== true) return done;
      written += place?.length ?? 0;
      done += place?.length ?? 0;
    }
    return length;
  };

  const move = async (offset: number, length: number, buffer: Uint8Array, order: Order): Promise<void> => {
    const bytes = buffer.subarray(0, length);
    await fill(source, bytes, offset);
    await order.myTurn;
    const call = sparse > 0 ? putRuns(bytes, offset) : put(bytes, offset);
    order.passOn();
    return call;
  };

  const work = async (piece: CopyPiece, buffer: Uint8Array, order: Order): Promise<void> => {
    const { offset, length, kind } = piece;
    if (kind === 'data') return move(offset, length, buffer, order);
    await order.myTurn;
    if (kind === 'zero') {
      const call = putZeros(offset, length);
      order.passOn();
      return call;
    }
    const call = offload(piece);
    order.passOn();
    const done = await call;
    if (done < length) offloads = false;
    for (let part = done; part < length; part += bufferSize)
      await move(offset + part, Math.min(bufferSize, length - part), buffer, order);
  };

  const nextOrFail = (skip: (length: number) => void) =>
    next(skip).catch((error) => failsIn('map', at)(error));
  await runPipeline({ total: size, parallel, bufferSize, next: nextOrFail, work }, options);
  return { written, zeroed };
}

/** The last multiple of `unit` up to `end`, or `end` if the disk ends there. */
function floorTo(end: number, unit: number, size: number): number {
  return end === size ? end : end - (end % unit);
}

/** The first multiple of `unit` from `end` on, or the end of the disk. */
function ceilTo(end: number, unit: number, size: number): number {
  return Math.min(Math.ceil(end / unit) * unit, size);
}

/** Waits for all, then fails as the first that failed: nothing is in flight after a failure. */
export async function allDone(calls: readonly Promise<void>[]): Promise<void> {
  if (calls.length === 1) return calls[0];
  for (const result of await Promise.allSettled(calls)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

/** Says of a failure in which step it was, and where on the disk. */
export function failsIn(step: TransferStep, offset: number): (error: unknown) => never {
  return (error) => {
    throw inStep(error, step, offset);
  };
}

/** Reads at once if that can be. @throws {DiskError} with `op` `read` */
export async function fill(source: BlockSource, into: Uint8Array, offset: number): Promise<void> {
  try {
    if (!source.tryRead(into, offset)) await source.read(into, offset);
  } catch (error) {
    throw inStep(error, 'read', offset);
  }
}
