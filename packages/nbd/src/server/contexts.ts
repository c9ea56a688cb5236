/**
 * Metadata contexts: what a server tells of ranges of a disk without sending their bytes.
 *
 * A new context is a function here that makes a `MetaContext`; the rest of the server knows none by name.
 *
 * Spec: proto.md, "Metadata querying"; QEMU, "NBD interoperability" (the qemu: namespace)
 */
import type { BlockSource, Extent, ExtentKind } from '@strata/block';
import { AllocationFlag } from '../protocol/numbers.ts';

/** The status of a run of bytes. */
export interface StatusRun {
  /** 1 to the limit that was asked for. */
  readonly length: number;
  /** 32 bits; what they mean is the context's. */
  readonly flags: number;
}

/** One thing to know about every byte of a disk. */
export interface MetaContext {
  /** Namespace, colon, leaf. */
  readonly name: string;
  /** The status from `offset` on, for as long as it is cheap to know. */
  describe(offset: number, limit: number): Promise<StatusRun>;
  /** The same without waiting. Undefined: call `describe`. */
  tryDescribe(offset: number, limit: number): StatusRun | undefined;
}

/** A context that is computed from the extents of a disk. */
function ofExtents(name: string, source: BlockSource, flagsOf: (extent: Extent) => number): MetaContext {
  const run = (extent: Extent): StatusRun => ({ length: extent.length, flags: flagsOf(extent) });
  return {
    name,
    describe: async (offset, limit) => run(await source.extentAt(offset, limit)),
    tryDescribe: (offset, limit) => {
      const extent = source.tryExtentAt(offset, limit);
      return extent && run(extent);
    },
  };
}

const { hole, zero } = AllocationFlag;

/** As qemu-nbd answers, which calls every range that is known to read as zeros a hole too. */
const allocationOf = {
  data: 0,
  compressed: 0,
  zero: hole | zero,
  'zero-allocated': hole | zero,
  hole: hole | zero,
} as const satisfies Record<ExtentKind, number>;

/** `base:allocation`: whether bytes take space and whether they are zeros. */
export function baseAllocation(source: BlockSource): MetaContext {
  return ofExtents('base:allocation', source, (extent) => allocationOf[extent.kind]);
}

/** `qemu:allocation-depth`: which image of the chain decides; 1 the top one, 0 none. */
export function allocationDepth(source: BlockSource): MetaContext {
  return ofExtents('qemu:allocation-depth', source, (extent) => extent.depth);
}

/** Runs of dirty bytes, as a dirty bitmap knows them. */
export interface DirtyRuns {
  /** The first run from `offset` on; undefined if all that follows is clean. */
  nextDirty(offset: number): { readonly offset: number; readonly length: number } | undefined;
}

/** `qemu:dirty-bitmap:NAME`: bit 0 says that bytes are dirty. */
export function dirtyBitmap(name: string, runs: DirtyRuns): MetaContext {
  const tryDescribe = (offset: number, limit: number): StatusRun => {
    const next = runs.nextDirty(offset);
    if (next === undefined) return { length: limit, flags: 0 };
    if (next.offset > offset) return { length: Math.min(limit, next.offset - offset), flags: 0 };
    return { length: Math.min(limit, next.length), flags: 1 };
  };
  return {
    name: `qemu:dirty-bitmap:${name}`,
    describe: async (offset, limit) => tryDescribe(offset, limit),
    tryDescribe,
  };
}

/** The identifiers that QEMU gives: fixed ones for the contexts it always has, counted ones for the rest. */
export function contextIds(contexts: readonly MetaContext[]): ReadonlyMap<number, MetaContext> {
  const fixed: readonly string[] = ['base:allocation', 'qemu:allocation-depth'];
  let next = fixed.length;
  const ids = contexts.map((context) => {
    const id = fixed.indexOf(context.name);
    return [id === -1 ? next++ : id, context] as const;
  });
  return new Map([...ids].sort(([a], [b]) => a - b));
}

/** True if a query of LIST_META_CONTEXT is for `name`: it is the name, or its beginning up to a colon. */
export function matchesQuery(query: string, name: string): boolean {
  return query === name || (query.endsWith(':') && name.startsWith(query));
}
