import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allOf } from '../src/settle.ts';

test('a failure is told only when nothing is under way any more', async () => {
  let finish: (() => void) | undefined;
  const slow = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let told = false;
  const all = allOf([Promise.reject(new Error('first')), slow, Promise.reject(new Error('second'))]).catch(
    (error: Error) => {
      told = true;
      return error.message;
    },
  );
  await new Promise<void>((resolve) => setImmediate(resolve));
  assert.equal(told, false);
  finish?.();
  assert.equal(await all, 'first');
});

test('nothing to wait for is done', async () => {
  await allOf([]);
});
