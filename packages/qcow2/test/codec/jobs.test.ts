import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inThreadPool } from '../../src/codec/jobs.ts';

type Done = (error: unknown, result: number) => void;

test('jobs begin in their order, a few at a time, and the next when one has ended', async () => {
  const begun: Done[] = [];
  const results = Array.from({ length: 200 }, () => inThreadPool<number>((done) => begun.push(done)));
  const atOnce = begun.length;
  assert.ok(atOnce > 1 && atOnce < 200, `${atOnce}`);
  for (let ended = 0; ended < 200; ended++) {
    begun[ended]?.(null, ended);
    assert.equal(begun.length, Math.min(200, atOnce + ended + 1));
  }
  assert.deepEqual(
    await Promise.all(results),
    Array.from({ length: 200 }, (_, index) => index),
  );
});

test('a job that fails, or cannot be begun, is only its own failure', async () => {
  const results = Array.from({ length: 100 }, (_, index) =>
    inThreadPool<number>((done) => {
      if (index % 3 === 0) throw new Error(`begin ${index}`);
      setImmediate(() => (index % 3 === 1 ? done(new Error(`end ${index}`), 0) : done(null, index)));
    }),
  );
  const outcomes = await Promise.allSettled(results);
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === 'fulfilled') assert.equal(outcome.value, index);
    else assert.match(outcome.reason.message, index % 3 === 0 ? /^begin \d+$/ : /^end \d+$/);
    assert.equal(outcome.status, index % 3 === 2 ? 'fulfilled' : 'rejected');
  }
});
