/** The speed of a job, on a clock that the test turns. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type JobClock, Throttle } from '../../src/jobs/throttle.ts';

/** A clock whose sleeps pass at once, unless they are to be woken. */
function testClock() {
  const slept: number[] = [];
  let now = 1000;
  const clock: JobClock & { slept: number[]; wakes: boolean } = {
    slept,
    wakes: false,
    now: () => now,
    sleep: (ms, signal) => {
      slept.push(ms);
      if (!clock.wakes) {
        now += ms;
        return Promise.resolve();
      }
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
    },
  };
  return clock;
}

test('a piece waits until the shares of those before it are over', async () => {
  const clock = testClock();
  const throttle = new Throttle(1000, clock);
  for (const bytes of [500, 250, 1]) assert.equal(await throttle.take(bytes), true);
  assert.deepEqual(clock.slept, [500, 250]);
});

test('without a bound nothing waits', async () => {
  const clock = testClock();
  const throttle = new Throttle(0, clock);
  for (let i = 0; i < 5; i++) assert.equal(await throttle.take(2 ** 40), true);
  assert.deepEqual(clock.slept, []);
});

test('a new speed holds at once, also for what waits', async () => {
  const clock = testClock();
  const throttle = new Throttle(1, clock);
  await throttle.take(1_000_000);
  clock.wakes = true;
  const waiting = throttle.take(10);
  throttle.rate = 1000;
  assert.equal(await waiting, false);
  assert.equal(throttle.rate, 1000);
  clock.wakes = false;
  assert.equal(await throttle.take(2000), true);
  await throttle.take(1);
  assert.deepEqual(clock.slept, [1_000_000_000, 2000]);
});

test('who is woken has taken nothing', async () => {
  const clock = testClock();
  const throttle = new Throttle(1000, clock);
  await throttle.take(1000);
  clock.wakes = true;
  const waiting = throttle.take(1_000_000);
  throttle.wake();
  assert.equal(await waiting, false);
  clock.wakes = false;
  assert.equal(await throttle.take(1), true);
  assert.deepEqual(clock.slept, [1000, 1000]);
});
