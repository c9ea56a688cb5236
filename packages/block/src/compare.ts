/**
 * Finds the first byte in which two disks differ.
 *
 * A shorter disk counts as followed by zeros. Ranges that both disks know to be zeros are not read; where
 * one knows, only the other is read. Data is compared by memcmp in large pieces, several in flight.
 */
import { failsIn, fill } from './copy.ts';
import type { BlockSource, Extent } from './device.ts';
import { readsAsZeros } from './extents.ts';
import { type Piece, runPipeline, type TransferOptions } from './pipeline.ts';
import { alignUp } from './size.ts';
import { isZeroRange } from './zeros.ts';

/** What a comparison may be told. */
export interface CompareOptions extends TransferOptions {
  /** Bytes of one read; 2 MiB if not given: half of what a comparison costs beside the kernel's part is per piece. */
  readonly bufferSize?: number;
  /** Pieces in flight; 4 if not given. */
  readonly parallel?: number;
}

interface ComparePiece extends Piece {
  /** Undefined: reads as zeros. */
  readonly a: BlockSource | undefined;
  readonly b: BlockSource | undefined;
}

/**
 * The offset of the first byte that differs; undefined if the disks read the same.
 *
 * @throws {DiskError} aborted, and what the disks throw; `context.op` says in which step (`map` or `read`),
 *   `context.offset` where on the disk
 */
export async function compare(
  a: BlockSource,
  b: BlockSource,
  options: CompareOptions = {},
): Promise<number | undefined> {
  const total = Math.max(a.size, b.size);
  const { bufferSize = Math.min(2 << 20, alignUp(Math.max(total, 1), 4096)), parallel = 4 } = options;
  const left = extentCursor(a, total);
  const right = extentCursor(b, total);
  let at = 0;
  let first: number | undefined;

  const next = async (skip: (length: number) => void): Promise<ComparePiece | undefined> => {
    while (at < total && first === undefined) {
      const leftExtent = left.peek(at) ?? (await left.at(at));
      const rightExtent = right.peek(at) ?? (await right.at(at));
      const end = Math.min(leftExtent.offset + leftExtent.length, rightExtent.offset + rightExtent.length);
      const readLeft = readsAsZeros(leftExtent) ? undefined : a;
      const readRight = readsAsZeros(rightExtent) ? undefined : b;
      const passed = readLeft === undefined && readRight === undefined;
      const length = Math.min(end - at, passed ? total : bufferSize - (at % bufferSize));
      const piece = { offset: at, length, a: readLeft, b: readRight };
      at += length;
      if (!passed) return piece;
      skip(length);
    }
    return undefined;
  };

  const work = async (piece: ComparePiece, buffer: Uint8Array): Promise<void> => {
    const { offset, length } = piece;
    const one = piece.a && buffer.subarray(0, length);
    const other = piece.b && buffer.subarray(bufferSize, bufferSize + length);
    await Promise.all([
      piece.a && one && readAside(piece.a, one, offset),
      piece.b && other && fill(piece.b, other, offset),
    ]);
    const difference = one && other ? firstDifference(one, other) : firstNonZero(one ?? other);
    if (difference !== undefined) first = Math.min(first ?? total, offset + difference);
  };

  const nextOrFail = (skip: (length: number) => void) =>
    next(skip).catch((error) => failsIn('map', at)(error));
  await runPipeline({ total, parallel, bufferSize: 2 * bufferSize, next: nextOrFail, work }, options);
  return first;
}

/** Shorter pieces are not worth a trip through the thread pool. */
const SHORT = 1 << 16;

/** Reads on another thread, while this one reads the other disk from the page cache. */
async function readAside(source: BlockSource, into: Uint8Array, offset: number): Promise<void> {
  if (into.length < SHORT) return fill(source, into, offset);
  return source.read(into, offset).catch(failsIn('read', offset));
}

/** Remembers the extent that was asked for last; past the end of the disk all is zeros. */
function extentCursor(source: BlockSource, total: number) {
  const { size } = source;
  let extent: Extent = { offset: size, length: total - size, kind: 'zero', depth: 1 };
  const past = extent;
  const peek = (at: number): Extent | undefined => {
    if (at >= size) return past;
    if (at >= extent.offset && at < extent.offset + extent.length) return extent;
    const found = source.tryExtentAt(at, size - at);
    if (found) extent = found;
    return found;
  };
  return {
    peek,
    at: async (at: number): Promise<Extent> => {
      extent = await source.extentAt(at, size - at);
      return extent;
    },
  };
}

/** memcmp says whether, not where: so the range that differs is halved until it is short. */
function firstDifference(a: Uint8Array, b: Uint8Array): number | undefined {
  if (Buffer.compare(a, b) === 0) return undefined;
  const half = a.length >>> 1;
  if (half === 0) return 0;
  const inFirstHalf = firstDifference(a.subarray(0, half), b.subarray(0, half));
  if (inFirstHalf !== undefined) return inFirstHalf;
  return half + (firstDifference(a.subarray(half), b.subarray(half)) ?? 0);
}

function firstNonZero(bytes: Uint8Array | undefined): number | undefined {
  if (bytes === undefined || isZeroRange(bytes, 0, bytes.length)) return undefined;
  return bytes.findIndex((byte) => byte !== 0);
}
