/**
 * Random overlays, commits and rebases of images of unequal sizes, compared with arrays: what a chain reads is what
 * its array holds after every step, and QEMU finds the images clean and reads the same.
 *
 * 600 steps in CI; MODEL_IMAGE_STEPS asks for more. A failure prints the seed, and MODEL_SEED repeats it.
 */
import { test } from 'node:test';
import { requires, temporaryFolder } from '@strata/testkit';
import fc from 'fast-check';
import { Shelf, type ShelfStep } from './shelf.ts';

const stepsPerRun = 30;
const steps = Number(process.env['MODEL_IMAGE_STEPS'] ?? 600);
const seed = process.env['MODEL_SEED'];

const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
const sectors = fc.integer({ min: 1, max: 2500 });
const step: fc.Arbitrary<ShelfStep> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constantFrom<'write' | 'zero'>('write', 'zero'),
      at: fraction,
      length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 400_000 })),
      fill: fc.integer({ min: 0, max: 255 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('overlay' as const),
      sectors,
      clusterSize: fc.constantFrom(512, 4096, 65_536),
      version: fc.constantFrom<2 | 3>(2, 3),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('commit' as const), depth: fraction, keep: fc.boolean() }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('rebase' as const), onto: fraction }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('rebase-new' as const),
      bytes: fc.integer({ min: 1, max: 1_200_000 }),
      format: fc.constantFrom<'raw' | 'qcow2'>('raw', 'qcow2'),
      fill: fc.integer({ min: 0, max: 255 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('flatten' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const) }) },
);

test(
  `chains read as arrays do after any of ${steps} overlays, commits and rebases`,
  requires('qemu-img'),
  async () => {
    const plans = fc.array(step, { minLength: stepsPerRun, maxLength: stepsPerRun, size: 'max' });
    const follow = async (plan: readonly ShelfStep[]): Promise<void> => {
      await using folder = await temporaryFolder();
      const shelf = await Shelf.create(folder);
      for (const each of plan) await shelf.step(each);
      await shelf.judge();
    };
    await fc.assert(fc.asyncProperty(plans, follow), {
      numRuns: Math.ceil(steps / stepsPerRun),
      ...(seed === undefined ? {} : { seed: Number(seed) }),
      interruptAfterTimeLimit: 20 * 60_000,
      markInterruptAsFailure: true,
    });
  },
);
