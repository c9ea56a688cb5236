import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lifetime } from '@strata/block';

test('the end waits for what runs, refuses what is new, and comes once', async () => {
  const lifetime = new Lifetime();
  const events: string[] = [];
  lifetime.enter();
  lifetime.enter();
  const close = async (): Promise<void> => {
    events.push('closed');
  };
  const ends = [lifetime.end(close), lifetime.end(close)];
  assert.throws(() => lifetime.enter(), { code: 'closed' });
  assert.throws(() => lifetime.check(), { code: 'closed' });
  lifetime.leave();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(events, []);
  lifetime.leave();
  await Promise.all(ends);
  assert.deepEqual(events, ['closed']);
});

test('with nothing running it ends at once', async () => {
  let closed = false;
  await new Lifetime().end(async () => {
    closed = true;
  });
  assert.equal(closed, true);
});
