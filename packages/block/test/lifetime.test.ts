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

test('who wants to be alone waits for what runs, keeps the careful out, and the end waits for it', async () => {
  const lifetime = new Lifetime();
  const events: string[] = [];
  const step = (name: string) => async (): Promise<void> => {
    events.push(name);
  };
  lifetime.enter();
  const first = lifetime.alone(step('first'));
  const second = lifetime.alone(step('second'));
  assert.ok(lifetime.pause !== undefined);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(events, []);
  lifetime.leave();
  await Promise.all([first, second]);
  assert.deepEqual(events, ['first', 'second']);
  assert.equal(lifetime.pause, undefined);

  lifetime.enter();
  const last = lifetime.alone(step('last'));
  const end = lifetime.end(step('closed'));
  lifetime.leave();
  await Promise.all([last, end]);
  assert.deepEqual(events, ['first', 'second', 'last', 'closed']);
  await assert.rejects(lifetime.alone(step('late')), { code: 'closed' });
});

test('after work that failed others go on', async () => {
  const lifetime = new Lifetime();
  await assert.rejects(
    lifetime.alone(async () => Promise.reject(new Error('no'))),
    /no/,
  );
  assert.equal(lifetime.pause, undefined);
  await lifetime.alone(async () => undefined);
});
