/** What the named bitmaps of an image must be, as sets of granules, and what may be asked of them. */
import type { ErrorCode } from '@strata/block';
import fc from 'fast-check';

/** A step. Places and lengths are in sectors, and are cut to the disk. */
export type BitmapStep =
  | { readonly kind: 'write' | 'zero' | 'discard'; readonly at: number; readonly sectors: number }
  | {
      readonly kind: 'add';
      readonly name: string;
      readonly granularity: number;
      readonly enabled: boolean;
      readonly persistent: boolean;
    }
  | { readonly kind: 'remove' | 'clear' | 'enable' | 'disable' | 'freeze'; readonly name: string }
  | { readonly kind: 'end'; readonly name: string; readonly left: 'nothing' | 'half' | 'all' }
  | { readonly kind: 'rename' | 'merge'; readonly name: string; readonly other: string }
  | { readonly kind: 'resize'; readonly sectors: number }
  | { readonly kind: 'flush' | 'reopen' | 'change behind' };

const sector = 512;
/** Sectors of the largest disk. */
export const mostSectors = 4096;

const name = fc.constantFrom('a', 'b', 'c');
const at = fc.nat(mostSectors - 1);
const sectors = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: mostSectors }));
const granularity = fc.constantFrom(512, 4096, 65_536, 2 ** 20, 2 ** 31);
const change = fc.record({ kind: fc.constantFrom('write', 'zero', 'discard'), at, sectors });

/** Any step; those that change the disk come most often. */
export const anyStep: fc.Arbitrary<BitmapStep> = fc.oneof(
  { weight: 10, arbitrary: change },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('add'),
      name,
      granularity,
      enabled: fc.boolean(),
      persistent: fc.integer({ min: 0, max: 3 }).map((number) => number > 0),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constantFrom('remove', 'clear', 'enable', 'disable'), name }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('freeze'), name }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('end'), name, left: fc.constantFrom('nothing', 'half', 'all') }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('rename', 'merge'), name, other: name }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('resize'), sectors }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('flush', 'reopen', 'reopen', 'change behind') }),
  },
) as fc.Arbitrary<BitmapStep>;

/** A bitmap as it must be. */
export interface OracleBitmap {
  readonly granularity: number;
  readonly persistent: boolean;
  enabled: boolean;
  inconsistent: boolean;
  dirty: Set<number>;
  frozen: { readonly content: ReadonlySet<number>; readonly since: Set<number> } | undefined;
}

/** The bitmaps of one disk. */
export class BitmapOracle {
  size: number;
  readonly bitmaps = new Map<string, OracleBitmap>();

  constructor(size: number) {
    this.size = size;
  }

  /** The range of a change, inside the disk. */
  rangeOf({ at: from, sectors: count }: { readonly at: number; readonly sectors: number }) {
    const offset = (from * sector) % this.size;
    return { offset, length: Math.min(count * sector, this.size - offset) };
  }

  /** The runs of dirty bytes of a bitmap. */
  rangesOf({ dirty, granularity: unit }: Pick<OracleBitmap, 'dirty' | 'granularity'>) {
    const ranges: { offset: number; length: number }[] = [];
    for (const granule of [...dirty].sort((a, b) => a - b)) {
      const offset = granule * unit;
      const length = Math.min(offset + unit, this.size) - offset;
      const last = ranges.at(-1);
      if (last !== undefined && last.offset + last.length === offset) last.length += length;
      else ranges.push({ offset, length });
    }
    return ranges;
  }

  /** Why a step must fail; undefined: it must not. */
  refusal(step: BitmapStep): ErrorCode | undefined {
    const all = [...this.bitmaps.values()];
    if (step.kind === 'resize') return all.some(({ frozen }) => frozen !== undefined) ? 'busy' : undefined;
    if (!('name' in step)) return undefined;
    const bitmap = this.bitmaps.get(step.name);
    if (step.kind === 'add') return bitmap === undefined ? undefined : 'exists';
    if (bitmap === undefined) return step.kind === 'end' ? undefined : 'not-found';
    if (step.kind === 'end') return undefined;
    if (bitmap.frozen !== undefined) return 'busy';
    if (step.kind === 'remove') return undefined;
    if (step.kind === 'rename') {
      return step.other !== step.name && this.bitmaps.has(step.other) ? 'exists' : undefined;
    }
    return bitmap.inconsistent ? 'invalid' : undefined;
  }

  /** Does a step that is not refused. `reopen` and what others do behind our back are the caller's to tell of. */
  apply(step: BitmapStep): void {
    switch (step.kind) {
      case 'write':
      case 'zero':
      case 'discard': {
        const { offset, length } = this.rangeOf(step);
        for (const bitmap of this.bitmaps.values()) {
          if (!bitmap.enabled || bitmap.inconsistent) continue;
          mark(bitmap.dirty, bitmap.granularity, offset, length);
          if (bitmap.frozen) mark(bitmap.frozen.since, bitmap.granularity, offset, length);
        }
        return;
      }
      case 'add': {
        const { granularity: unit, enabled, persistent } = step;
        const fresh = { granularity: unit, enabled, persistent, inconsistent: false, frozen: undefined };
        this.bitmaps.set(step.name, { ...fresh, dirty: new Set() });
        return;
      }
      case 'resize':
        this.size = step.sectors * sector;
        for (const { dirty, granularity: unit } of this.bitmaps.values()) {
          for (const granule of dirty) if (granule * unit >= this.size) dirty.delete(granule);
        }
        return;
      case 'flush':
      case 'reopen':
      case 'change behind':
        return;
    }
    this.#applyToOne(step);
  }

  #applyToOne(step: Exclude<BitmapStep, { readonly kind: 'add' }> & { readonly name: string }): void {
    const bitmap = this.bitmaps.get(step.name);
    if (bitmap === undefined) return;
    switch (step.kind) {
      case 'remove':
        this.bitmaps.delete(step.name);
        return;
      case 'clear':
        bitmap.dirty = new Set();
        return;
      case 'enable':
      case 'disable':
        bitmap.enabled = step.kind === 'enable';
        return;
      case 'rename': {
        // The order of the list is kept.
        const entries = [...this.bitmaps].map(([key, value]) => [
          key === step.name ? step.other : key,
          value,
        ]);
        this.bitmaps.clear();
        for (const [key, value] of entries as [string, OracleBitmap][]) this.bitmaps.set(key, value);
        return;
      }
      case 'merge': {
        const source = this.bitmaps.get(step.other);
        if (source === undefined || source.inconsistent) return;
        for (const { offset, length } of this.rangesOf(source))
          mark(bitmap.dirty, bitmap.granularity, offset, length);
        return;
      }
      case 'freeze':
        bitmap.frozen = { content: new Set(bitmap.dirty), since: new Set() };
        return;
      case 'end': {
        if (bitmap.frozen === undefined) return;
        const { content, since } = bitmap.frozen;
        for (const granule of content) {
          const end = Math.min((granule + 1) * bitmap.granularity, this.size);
          if (step.left === 'all' || (step.left === 'half' && end > halfOf(this.size))) since.add(granule);
        }
        bitmap.dirty = since;
        bitmap.frozen = undefined;
      }
    }
  }

  /** The image was closed and opened: what was in memory only is gone. */
  reopened(): void {
    for (const [key, bitmap] of this.bitmaps) {
      bitmap.frozen = undefined;
      if (!bitmap.persistent) this.bitmaps.delete(key);
    }
  }

  /** Somebody else changed the image. */
  spoilt(): void {
    for (const bitmap of this.bitmaps.values()) bitmap.inconsistent = true;
  }
}

/** Where a job that got half way stopped. */
export function halfOf(size: number): number {
  return Math.floor(size / 2 / sector) * sector;
}

function mark(dirty: Set<number>, unit: number, offset: number, length: number): void {
  for (let granule = Math.floor(offset / unit); granule * unit < offset + length; granule++)
    dirty.add(granule);
}
