/** What a model run does to a disk, as values that fast-check can draw and shrink. */
import fc from 'fast-check';

/** One step. Offsets are fractions of the disk, so that a step fits every size. */
export type Operation =
  | {
      readonly kind: 'write' | 'zero' | 'reserve' | 'discard' | 'read';
      readonly at: number;
      readonly length: number;
      readonly fill: number;
    }
  | { readonly kind: 'burst'; readonly at: number; readonly fill: number }
  /** To `at` times half as much again as the disk began with. */
  | { readonly kind: 'resize'; readonly at: number }
  | { readonly kind: 'flush' | 'reopen' | 'overlay' | 'commit' };

/** What is drawn for one run. */
export interface Plan {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  /** Version 3 only; subclusters only in clusters of 16 KiB and more. */
  readonly feature: 'none' | 'subclusters' | 'data file' | 'raw data file' | 'lazy refcounts';
  /** In sectors of 512 bytes, so that the last cluster is mostly cut. */
  readonly sectors: number;
  readonly base: 'raw' | 'qcow2' | 'short-qcow2';
  readonly operations: readonly Operation[];
}

const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
/** Mostly short, sometimes over many clusters. */
const length = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 5000 }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 40 }).map((blocks) => blocks * 4096) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 600_000 }) },
);
const fill = fc.integer({ min: 0, max: 255 });

const ranged = (kind: 'write' | 'zero' | 'reserve' | 'discard' | 'read', weight: number) => ({
  weight,
  arbitrary: fc.record({ kind: fc.constant(kind), at: fraction, length, fill }),
});
const plain = (kind: 'flush' | 'reopen' | 'overlay' | 'commit', weight: number) => ({
  weight,
  arbitrary: fc.record({ kind: fc.constant(kind) }),
});

const operation: fc.Arbitrary<Operation> = fc.oneof(
  ranged('write', 40),
  ranged('read', 20),
  ranged('zero', 12),
  ranged('reserve', 3),
  ranged('discard', 10),
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('burst' as const), at: fraction, fill }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('resize' as const), at: fraction }) },
  plain('flush', 4),
  plain('reopen', 2),
  plain('overlay', 1),
  plain('commit', 1),
);

/** A run of `operations` steps. */
export function plans(operations: number): fc.Arbitrary<Plan> {
  return fc
    .record({
      version: fc.constantFrom<2 | 3>(2, 3),
      clusterSize: fc.constantFrom(512, 4096, 65_536, 2 ** 21),
      refcountBits: fc.constantFrom(1, 8, 16, 64),
      feature: fc.constantFrom<Plan['feature']>(
        'none',
        'subclusters',
        'data file',
        'raw data file',
        'lazy refcounts',
      ),
      sectors: fc.integer({ min: 2000, max: 9000 }),
      base: fc.constantFrom<Plan['base']>('raw', 'qcow2', 'short-qcow2'),
      operations: fc.array(operation, { minLength: operations, maxLength: operations, size: 'max' }),
    })
    .map((plan) => (plan.version === 2 ? { ...plan, refcountBits: 16, feature: 'none' } : plan));
}
