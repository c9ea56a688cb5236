/**
 * Copies what changed into a layer, in stretches: after each the layer is durable up to there, which a journal may
 * then say. Where little is to be copied the stretches grow, so that an empty disk of any size takes few.
 */
import {
  type BlockDevice,
  copy,
  DiskError,
  deviceWindow,
  isDiskError,
  sourceWindow,
  type TransferOptions,
} from '@strata/block';
import type { ChangedOnly } from './changed-only.ts';

/** How what changed is copied. */
export interface ChangesTransfer extends TransferOptions {
  /** Where to begin: up to here the target is whole. */
  readonly from: number;
  /** Bytes to read between two times at which the target is made durable. */
  readonly stretch: number;
  /** What is not copied reads as zeros in the target. */
  readonly targetIsZero: boolean;
  /** The target takes multiples of so many bytes. */
  readonly unit: number;
  /** Pieces in flight. */
  readonly parallel?: number;
  /** Told that the target is durable up to an offset. */
  readonly settled: (done: number) => Promise<void>;
}

/** Stretches end where the buffers of a copy do. */
const alignment = 1 << 21;
const longest = 2 ** 40;

/** @throws {DiskError} aborted, and what the disks throw; `context.op` says in which step, `offset` where on the disk */
export async function transferChanges(
  source: ChangedOnly,
  target: BlockDevice,
  { from, stretch, settled, progress, ...options }: ChangesTransfer,
): Promise<void> {
  const { size } = source;
  let length = Math.ceil(stretch / alignment) * alignment;
  let unsettled = 0;
  progress?.(from, size);
  for (let at = from; at < size; ) {
    const end = Math.min(at + length, size);
    const before = source.counts.read;
    const report = (done: number): void => progress?.(at + done, size);
    await copy(sourceWindow(source, at, end - at), deviceWindow(target, at, end - at), {
      ...options,
      select: ({ depth }) => depth > 0,
      progress: report,
    }).catch((error: unknown) => {
      throw movedBy(error, at);
    });
    const read = source.counts.read - before;
    unsettled += read;
    at = end;
    length = read < stretch / 2 ? Math.min(length * 2, longest) : Math.ceil(stretch / alignment) * alignment;
    if (unsettled < stretch || at === size) continue;
    await target.flush();
    await settled(at);
    unsettled = 0;
  }
  await target.flush();
}

function movedBy(error: unknown, start: number): unknown {
  if (!isDiskError(error)) return error;
  const { offset = 0 } = error.context;
  return new DiskError(error.code, error.message, {
    ...error.context,
    offset: start + offset,
    cause: error.cause,
  });
}
