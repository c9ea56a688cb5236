/** Pausing the calls on a disk. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Traffic } from '../src/traffic.ts';

test('a pause begins when no call is under way, and calls that come then have to wait', async () => {
  const traffic = new Traffic();
  traffic.enter();
  traffic.enter();
  const resume = traffic.hold();
  assert.ok(traffic.held);
  assert.equal(traffic.isPaused, false);
  let isIdle = false;
  const idle = traffic.untilIdle().then(() => {
    isIdle = true;
  });
  traffic.leave();
  await Promise.resolve();
  assert.equal(isIdle, false);
  traffic.leave();
  await idle;
  assert.equal(traffic.isPaused, true);
  const waiting = traffic.held;
  resume();
  await waiting;
  assert.equal(traffic.held, undefined);
});

test('of several pauses the last to end lets calls go on, and ending one twice is once', () => {
  const traffic = new Traffic();
  const [first, second] = [traffic.hold(), traffic.hold()];
  first();
  first();
  assert.ok(traffic.held);
  second();
  assert.equal(traffic.held, undefined);
});
