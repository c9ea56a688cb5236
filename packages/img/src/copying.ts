/**
 * The copy of `convert`: disks one after another onto a target, part of which may read as zeros by itself.
 *
 * qemu-img says whether reading or writing failed, and where; a copy only knows where. So the target is watched.
 */
import {
  type BlockDevice,
  type BlockSource,
  type CopyOptions,
  copy,
  deviceWindow,
  isDiskError,
  sourceWindow,
} from '@strata/block';
import { type Chain, ChainSource } from '@strata/chain';
import { CommandError } from './report.ts';

/** How to copy. */
export interface CopyPlan extends Pick<CopyOptions, 'select' | 'sparse' | 'parallel'> {
  /** From this offset on the target reads as zeros. */
  readonly zeroFrom: number;
  readonly progress: (done: number, total: number) => void;
}

/** A range of the target and what goes there. */
interface Part {
  readonly source: BlockSource;
  readonly at: number;
  readonly targetIsZero: boolean;
}

/** The top image of a chain by itself: what it leaves to its backing file are holes. */
export function topAlone({ images, source }: Chain): BlockSource {
  return new ChainSource(
    images.slice(0, 1).map((image) => image.layer),
    source.size,
  );
}

/** Copies `disks`, one after another, to the start of `target`. @throws {CommandError} that says what failed where */
export async function copyAll(
  disks: readonly BlockSource[],
  target: BlockDevice,
  { zeroFrom, progress, ...options }: CopyPlan,
): Promise<void> {
  const total = disks.reduce((sum, disk) => sum + disk.size, 0);
  for (const { source, at, targetIsZero } of partsOf(disks, zeroFrom)) {
    const range = watched(deviceWindow(target, at, source.size));
    const report = (done: number): void => progress(at + done, total);
    try {
      await copy(source, range, { ...options, targetIsZero, progress: report });
    } catch (error) {
      throw failureOf(error, at);
    }
  }
}

function partsOf(disks: readonly BlockSource[], zeroFrom: number): readonly Part[] {
  let at = 0;
  const parts: Part[] = [];
  const add = (source: BlockSource, targetIsZero: boolean): void => {
    if (source.size > 0) parts.push({ source, at, targetIsZero });
    at += source.size;
  };
  for (const disk of disks) {
    const before = Math.min(Math.max(zeroFrom - at, 0), disk.size);
    add(before < disk.size ? sourceWindow(disk, 0, before) : disk, false);
    if (before < disk.size) add(before > 0 ? sourceWindow(disk, before, disk.size - before) : disk, true);
  }
  return parts;
}

/** `device`, whose failures to write are told apart from a source's failures to read. */
function watched(device: BlockDevice): BlockDevice {
  const failed = (offset: number) => (error: unknown) => {
    throw new WriteFailure(offset, error);
  };
  return {
    size: device.size,
    caps: device.caps,
    read: (into, offset) => device.read(into, offset),
    tryRead: (into, offset) => device.tryRead(into, offset),
    extentAt: (offset, limit) => device.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => device.tryExtentAt(offset, limit),
    write: (from, offset) => device.write(from, offset).catch(failed(offset)),
    zero: (offset, length, how) => device.zero(offset, length, how).catch(failed(offset)),
    discard: (offset, length) => device.discard(offset, length).catch(failed(offset)),
    flush: () => device.flush(),
    [Symbol.asyncDispose]: () => device[Symbol.asyncDispose](),
  };
}

class WriteFailure extends Error {
  readonly offset: number;

  constructor(offset: number, cause: unknown) {
    super('writing failed', { cause });
    this.offset = offset;
  }
}

/** @param at where the range that was copied begins */
function failureOf(error: unknown, at: number): unknown {
  const isWrite = error instanceof WriteFailure;
  const reason = isWrite ? error.cause : error;
  if (!isDiskError(reason)) return reason;
  const offset = at + (isWrite ? error.offset : (reason.context.offset ?? 0));
  const doing = isWrite ? 'writing' : 'reading';
  return new CommandError(`error while ${doing} at byte ${offset}: ${reason.message}`, { cause: reason });
}
