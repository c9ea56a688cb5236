import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coalescedFlush } from '../src/durability.ts';

/** A sync whose calls are ended by hand. */
function syncByHand() {
  const calls: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const sync = (): Promise<void> => new Promise((resolve, reject) => calls.push({ resolve, reject }));
  return { calls, flush: coalescedFlush(sync) };
}

/** Lets every promise that can settle do so. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('flushes that come while one runs are served by one more, which starts after it', async () => {
  const { calls, flush } = syncByHand();
  const first = flush();
  const later = [flush(), flush(), flush()];
  await settle();
  assert.equal(calls.length, 1);
  calls[0]?.resolve();
  await first;
  await settle();
  assert.equal(calls.length, 2);
  let ended = false;
  const all = Promise.all(later).then(() => {
    ended = true;
  });
  await settle();
  assert.equal(ended, false);
  calls[1]?.resolve();
  await all;
});

test('a flush after all have ended syncs again', async () => {
  let syncs = 0;
  const flush = coalescedFlush(async () => {
    syncs++;
  });
  await flush();
  await flush();
  assert.equal(syncs, 2);
});

test('after a failure no later flush succeeds, and none syncs', async () => {
  const { calls, flush } = syncByHand();
  const first = flush();
  const waiting = flush();
  calls[0]?.reject(new Error('Input/output error'));
  await assert.rejects(first, /Input\/output error/);
  await assert.rejects(waiting, { code: 'io', message: /earlier flush failed \(Input\/output error\)/ });
  await assert.rejects(flush(), { code: 'io' });
  assert.equal(calls.length, 1);
});
