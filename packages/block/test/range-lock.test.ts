import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RangeLock } from '@strata/block';
import { randomFrom } from '@strata/testkit';

/** Lets every promise that can settle do so. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('ranges that do not overlap are held at once', () => {
  const lock = new RangeLock();
  assert.ok(lock.tryAcquire(0, 10));
  assert.ok(lock.tryAcquire(10, 10));
  assert.ok(lock.tryAcquire(100, 1));
});

test('overlapping ranges wait, and go on in the order they came', async () => {
  const lock = new RangeLock();
  const order: string[] = [];
  const first = await lock.acquire(0, 100);
  const second = lock.acquire(50, 100).then((hold) => {
    order.push('second');
    return hold;
  });
  const third = lock.acquire(120, 10).then((hold) => {
    order.push('third');
    return hold;
  });
  await settle();
  assert.deepEqual(order, []);
  first.release();
  (await second).release();
  (await third).release();
  assert.deepEqual(order, ['second', 'third']);
});

test('a range that waits is not passed by later ones that overlap it', async () => {
  const lock = new RangeLock();
  const first = await lock.acquire(0, 10);
  const large = lock.acquire(0, 100);
  assert.equal(lock.tryAcquire(50, 10), undefined);
  assert.ok(lock.tryAcquire(200, 10));
  first.release();
  const hold = await large;
  assert.equal(lock.tryAcquire(50, 10), undefined);
  hold.release();
  assert.ok(lock.tryAcquire(50, 10));
});

test('one release lets all go that waited for it alone', async () => {
  const lock = new RangeLock();
  const whole = await lock.acquire(0, 100);
  const parts = [lock.acquire(0, 10), lock.acquire(10, 10), lock.acquire(20, 10)];
  whole.release();
  for (const hold of await Promise.all(parts)) hold.release();
  assert.ok(lock.tryAcquire(0, 100));
});

test('a hold that is narrowed lets those go that waited for the rest only', async () => {
  const lock = new RangeLock();
  const hold = await lock.acquire(0, 100);
  const order: string[] = [];
  const waits = (name: string, offset: number): Promise<void> =>
    lock.acquire(offset, 10).then((other) => {
      order.push(name);
      other.release();
    });
  const all = [waits('before', 10), waits('inside', 45), waits('behind', 90)];
  hold.narrow(40, 20);
  await settle();
  assert.deepEqual(order, ['before', 'behind']);
  assert.equal(lock.tryAcquire(59, 1), undefined);
  assert.ok(lock.tryAcquire(0, 40));
  assert.throws(() => hold.narrow(30, 5), RangeError);
  hold.release();
  await Promise.all(all);
  assert.deepEqual(order, ['before', 'behind', 'inside']);
});

test('a range of no bytes overlaps nothing', async () => {
  const lock = new RangeLock();
  await lock.acquire(0, 100);
  assert.ok(lock.tryAcquire(50, 0));
});

test('a hold is released once', async () => {
  const hold = await new RangeLock().acquire(0, 1);
  hold.release();
  assert.throws(() => hold.release(), RangeError);
});

test('run releases when the work fails', async () => {
  const lock = new RangeLock();
  await assert.rejects(
    lock.run(0, 10, () => Promise.reject(new Error('no'))),
    /no/,
  );
  assert.ok(lock.tryAcquire(0, 10));
});

test('of 2000 random ranges no two that overlap run at once, and all run', async () => {
  const random = randomFrom(5);
  const lock = new RangeLock();
  const running = new Set<{ start: number; end: number }>();
  let ran = 0;
  const calls = Array.from({ length: 2000 }, () => {
    const start = random.upTo(1000);
    const range = { start, end: start + 1 + random.upTo(50) };
    return lock.run(start, range.end - start, async () => {
      for (const other of running) assert.ok(other.end <= range.start || range.end <= other.start);
      running.add(range);
      for (let waits = random.upTo(3); waits > 0; waits--) await settle();
      running.delete(range);
      ran++;
    });
  });
  await Promise.all(calls);
  assert.equal(ran, 2000);
});
