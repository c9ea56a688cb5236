import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError, MemoryDevice } from '@strata/block';
import { copy } from '../src/copy.ts';
import { type Clock, paceOf } from '../src/pace.ts';

/** A clock that stands still but for sleeping. */
function turned(): Clock & { time: number; readonly slept: number[] } {
  const clock = {
    time: 5000,
    slept: [] as number[],
    now: () => clock.time,
    sleep: async (ms: number) => {
      clock.slept.push(ms);
      clock.time += ms;
    },
  };
  return clock;
}

test('what was moved so far is never more than the rate allows, but for the first piece', async () => {
  const clock = turned();
  const pace = paceOf(1000, undefined, clock);
  let moved = 0;
  for (const bytes of [500, 100, 900, 1, 4000, 250]) {
    await pace(bytes);
    assert.ok(moved <= clock.time - 5000 + 1e-6, `${moved} bytes after ${clock.time - 5000} ms`);
    moved += bytes;
  }
  assert.deepEqual(clock.slept, [500, 100, 900, 1, 4000]);
});

test('time that was not used is not made up for', async () => {
  const clock = turned();
  const pace = paceOf(1000, undefined, clock);
  assert.equal(pace(100), undefined);
  clock.time += 10_000;
  assert.equal(pace(1000), undefined);
  await pace(1000);
  assert.deepEqual(clock.slept, [1000]);
});

test('an abort ends the wait of a transfer that is held down', async () => {
  await using source = new MemoryDevice(8 << 20);
  await source.write(new Uint8Array(8 << 20).fill(1), 0);
  await using target = new MemoryDevice(8 << 20);
  const stop = new AbortController();
  const progress = (done: number): void => {
    if (done > 0) stop.abort();
  };
  // At one byte a second the second piece would wait for weeks.
  await assert.rejects(copy(source, target, { rate: 1, signal: stop.signal, progress }), (error) =>
    isDiskError(error, 'aborted'),
  );
});
