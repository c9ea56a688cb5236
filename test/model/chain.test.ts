/**
 * Random steps on chains of one to four images, compared with an array after every step.
 *
 * 20,000 steps in CI; MODEL_STEPS asks for more. A failure prints the seed and the shrunk plan, and
 * MODEL_SEED repeats it.
 */
import { test } from 'node:test';
import { requires, temporaryFolder } from '@strata/testkit';
import fc from 'fast-check';
import { type Plan, plans } from './operations.ts';
import { Subject } from './subject.ts';

const stepsPerRun = 400;
const steps = Number(process.env['MODEL_STEPS'] ?? 20_000);
const seed = process.env['MODEL_SEED'];

async function follow(plan: Plan): Promise<void> {
  await using folder = await temporaryFolder();
  await using subject = await Subject.create(plan, folder);
  for (const operation of plan.operations) await subject.step(operation);
  await subject.compareAll();
  await subject.judge();
}

test(
  `a chain reads as an array does after any of ${steps} steps, and QEMU finds its images clean`,
  requires('qemu-img'),
  async () => {
    await fc.assert(fc.asyncProperty(plans(stepsPerRun), follow), {
      numRuns: Math.ceil(steps / stepsPerRun),
      ...(seed === undefined ? {} : { seed: Number(seed) }),
      interruptAfterTimeLimit: 20 * 60_000,
      markInterruptAsFailure: true,
    });
  },
);
