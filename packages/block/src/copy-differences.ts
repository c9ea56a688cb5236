/**
 * Makes a disk hold what it shows now, so that something else may be put under it: what the old and the new disk below
 * differ in is written into it, and what they agree on is left alone.
 *
 * Ranges that both know to be zeros are not read. What is read is compared by memcmp, block by block of the
 * target, so that an image allocates whole clusters and never reads for them.
 */
import { allDone, failsIn, fill } from './copy.ts';
import type { BlockDevice, BlockSource, Extent } from './device.ts';
import { readsAsZeros } from './extents.ts';
import { type Order, type Piece, runPipeline, type TransferOptions } from './pipeline.ts';
import { isZeroRange } from './zeros.ts';

/** What such a copy may be told. */
export interface CopyDifferencesOptions extends TransferOptions {
  /** Where a range begins that is alike in this: whether it is to be looked at. All is, if not given. */
  readonly select?: (offset: number, limit: number) => Promise<{ length: number; wanted: boolean }>;
  /** Bytes of one read; 1 MiB if not given. */
  readonly bufferSize?: number;
  /** Pieces in flight; 4 if not given. */
  readonly parallel?: number;
}

/** Where the target allocates in smaller steps, blocks of this size are compared. */
const smallestBlock = 512;

interface Difference extends Piece {
  /** Undefined: reads as zeros. */
  readonly wanted: BlockSource | undefined;
  readonly other: BlockSource | undefined;
}

/**
 * Writes to `target` what `wanted` has where `other` has something else. All three are equally long. It does not flush.
 *
 * @throws {DiskError} aborted, and what the disks throw; `context.op` says in which step (`TransferStep`),
 *   `context.offset` where on the disk
 */
export async function copyDifferences(
  wanted: BlockSource,
  other: BlockSource,
  target: BlockDevice,
  options: CopyDifferencesOptions = {},
): Promise<void> {
  const { size } = target;
  const blockSize = Math.max(target.caps.blockSize, smallestBlock);
  const { select, parallel = 4 } = options;
  const bufferSize = Math.max(options.bufferSize ?? 1 << 20, blockSize);
  const extentOf = extentReader();
  const otherExtentOf = extentReader();
  let at = 0;
  let range = { end: 0, wanted: true };

  const next = async (skip: (length: number) => void): Promise<Difference | undefined> => {
    while (at < size) {
      if (at === range.end) {
        const { length, wanted: isWanted } = (await select?.(at, size - at)) ?? {
          length: size - at,
          wanted: true,
        };
        range = { end: at + length, wanted: isWanted };
      }
      const offset = at;
      let end = range.end;
      let piece: Difference | undefined;
      if (range.wanted) {
        const one = await extentOf(wanted, offset);
        const two = await otherExtentOf(other, offset);
        const [noBytes, noOthers] = [readsAsZeros(one), readsAsZeros(two)];
        end = Math.min(end, one.offset + one.length, two.offset + two.length);
        if (!noBytes || !noOthers) {
          end = Math.min(end, offset + bufferSize - (offset % bufferSize));
          const bytes = { wanted: noBytes ? undefined : wanted, other: noOthers ? undefined : other };
          piece = { offset, length: end - offset, ...bytes };
        }
      }
      at = end;
      if (piece !== undefined) return piece;
      skip(end - offset);
    }
    return undefined;
  };

  const put = (run: Run, bytes: Uint8Array | undefined, offset: number): Promise<void> => {
    const { start, length } = run;
    const at = offset + start;
    const isZero = bytes === undefined || isZeroRange(bytes, start, start + length);
    const call = isZero ? target.zero(at, length) : target.write(bytes.subarray(start, start + length), at);
    return call.catch(failsIn('write', at));
  };

  const work = async (piece: Difference, buffer: Uint8Array, order: Order): Promise<void> => {
    const { offset, length } = piece;
    const one = piece.wanted && buffer.subarray(0, length);
    const two = piece.other && buffer.subarray(bufferSize, bufferSize + length);
    await Promise.all([
      piece.wanted && one && fill(piece.wanted, one, offset),
      piece.other && two && fill(piece.other, two, offset),
    ]);
    const runs = differences(one, two, length, blockSize, offset);
    await order.myTurn;
    const calls = runs.map((run) => put(run, one, offset));
    order.passOn();
    await allDone(calls);
  };

  const nextOrFail = (skip: (length: number) => void) =>
    next(skip).catch((error) => failsIn('map', at)(error));
  await runPipeline({ total: size, parallel, bufferSize: 2 * bufferSize, next: nextOrFail, work }, options);
}

/** Remembers the extent that was asked for last. */
function extentReader(): (source: BlockSource, at: number) => Promise<Extent> {
  let extent: Extent | undefined;
  return async (source, at) => {
    if (extent !== undefined && at >= extent.offset && at < extent.offset + extent.length) return extent;
    const limit = source.size - at;
    extent = source.tryExtentAt(at, limit) ?? (await source.extentAt(at, limit));
    return extent;
  };
}

interface Run {
  readonly start: number;
  readonly length: number;
}

/** The blocks that differ, neighbours together if both are zeros or both are not. Undefined bytes are zeros. */
function differences(
  one: Uint8Array | undefined,
  two: Uint8Array | undefined,
  length: number,
  block: number,
  offset: number,
): readonly Run[] {
  if (one && two && Buffer.compare(one, two) === 0) return [];
  const runs: { start: number; length: number; zero: boolean }[] = [];
  for (let start = 0; start < length; ) {
    const end = Math.min(start + block - ((offset + start) % block), length);
    const zero = one === undefined || isZeroRange(one, start, end);
    const same =
      one && two
        ? Buffer.compare(one.subarray(start, end), two.subarray(start, end)) === 0
        : zero && (two === undefined || isZeroRange(two, start, end));
    const last = runs.at(-1);
    if (!same && last?.zero === zero && last.start + last.length === start) last.length += end - start;
    else if (!same) runs.push({ start, length: end - start, zero });
    start = end;
  }
  return runs;
}
