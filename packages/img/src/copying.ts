/**
 * The copy of `convert`: disks one after another onto a target, part of which may read as zeros by itself.
 */
import {
  type BlockDevice,
  type BlockSource,
  type CopyOptions,
  copy,
  deviceWindow,
  isDiskError,
  joinedSources,
  sourceWindow,
  type TransferStep,
} from '@strata/block';
import { type Chain, ChainSource } from '@strata/chain';
import { CommandError } from './report.ts';

/** How to copy. */
export interface CopyPlan
  extends Pick<CopyOptions, 'select' | 'sparse' | 'parallel' | 'offload' | 'rate' | 'unit'> {
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

/** `content` with the extents of `extents`, which is as long. */
export function describedBy(content: BlockSource, extents: BlockSource): BlockSource {
  return {
    size: content.size,
    read: (into, offset) => content.read(into, offset),
    tryRead: (into, offset) => content.tryRead(into, offset),
    extentAt: (offset, limit) => extents.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => extents.tryExtentAt(offset, limit),
    placeAt: async (offset, limit) => content.placeAt?.(offset, limit),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** Copies `disks`, one after another, to the start of `target`. @throws {CommandError} that says what failed where */
export async function copyAll(
  disks: readonly BlockSource[],
  target: BlockDevice,
  { zeroFrom, progress, ...options }: CopyPlan,
): Promise<void> {
  const total = disks.reduce((sum, disk) => sum + disk.size, 0);
  const { unit = 1 } = options;
  // Units must not be cut where disks meet or where the zeros begin.
  const whole = unit > 1 && disks.length > 1 ? [joinedSources(disks)] : disks;
  const zerosFrom = Math.ceil(zeroFrom / unit) * unit;
  for (const { source, at, targetIsZero } of partsOf(whole, zerosFrom)) {
    const range = deviceWindow(target, at, source.size);
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

const steps = {
  map: 'reading block status at offset',
  read: 'reading at byte',
  write: 'writing at byte',
} as const satisfies Record<TransferStep, string>;

/** @param at where on the target the range that was copied begins */
function failureOf(error: unknown, at: number): unknown {
  if (!isDiskError(error)) return error;
  const { op, offset = 0 } = error.context;
  const doing = op !== undefined && Object.hasOwn(steps, op) ? steps[op as TransferStep] : steps.read;
  return new CommandError(`error while ${doing} ${at + offset}: ${error.message}`, { cause: error });
}
