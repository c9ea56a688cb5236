import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BlockDevice, checkedDevice, checkedSource, type Extent, MemoryDevice } from '@strata/block';
import { blockSuite, oracle } from '@strata/testkit';

blockSuite({
  name: 'the oracle behind the gate',
  open: async () => {
    const device = checkedDevice(oracle(new Uint8Array(250_007)));
    return { device, [Symbol.asyncDispose]: () => device[Symbol.asyncDispose]() };
  },
  skip: [{ law: 'durable', reason: 'an array ends with its device' }],
});

/** A driver of 100 bytes that answers every question for extents with `answer`. */
function answering(answer: Partial<Extent>): BlockDevice {
  const extent: Extent = { offset: 10, length: 5, kind: 'data', depth: 1, ...answer };
  const memory = new MemoryDevice(100);
  return Object.assign(memory, { tryExtentAt: () => extent, extentAt: async () => extent });
}

test('an answer of a driver that breaks the contract is a RangeError', async () => {
  const bad: Partial<Extent>[] = [
    { offset: 9 },
    { length: 0 },
    { length: 6 },
    { length: 2.5 },
    { length: Number.NaN },
    { kind: 'hole', depth: 1 },
    { kind: 'data', depth: 0 },
  ];
  for (const answer of bad) {
    const gate = checkedDevice(answering(answer));
    assert.throws(() => gate.tryExtentAt(10, 5), RangeError, JSON.stringify(answer));
    await assert.rejects(gate.extentAt(10, 5), RangeError, JSON.stringify(answer));
  }
  assert.equal(checkedDevice(answering({})).tryExtentAt(10, 5)?.length, 5);
});

test('a limit past the end is cut before the driver hears of it', async () => {
  const limits: number[] = [];
  const memory = new MemoryDevice(100);
  const driver = Object.assign(memory, {
    tryExtentAt: (offset: number, length: number): Extent => {
      limits.push(length);
      return { offset, length, kind: 'data', depth: 1 };
    },
  });
  checkedSource(driver).tryExtentAt(90, 1000);
  assert.deepEqual(limits, [10]);
});

test('calls of no bytes do not reach the driver', async () => {
  const driver = new MemoryDevice(10);
  const gate = checkedDevice(driver);
  await driver[Symbol.asyncDispose]();
  await gate.write(new Uint8Array(0), 10);
  await gate.read(new Uint8Array(0), 10);
  await gate.zero(10, 0);
  assert.equal(gate.tryRead(new Uint8Array(0), 0), true);
});

test('a driver of no proper size is refused', () => {
  const driver = Object.create(new MemoryDevice(10), { size: { value: 1.5 } });
  assert.throws(() => checkedSource(driver), RangeError);
});

test('capabilities are frozen as they were when it was opened', () => {
  const gate = checkedDevice(new MemoryDevice(10));
  assert.throws(() => Object.assign(gate.caps, { blockSize: 2 }), TypeError);
});

test('the driver is disposed of once, after the last call has ended', async () => {
  const events: string[] = [];
  let finish = (): void => {};
  const driver = Object.assign(new MemoryDevice(10), {
    read: () =>
      new Promise<void>((resolve) => {
        finish = () => {
          events.push('read');
          resolve();
        };
      }),
    [Symbol.asyncDispose]: async () => {
      events.push('disposed');
    },
  });
  const gate = checkedSource(driver);
  const reading = gate.read(new Uint8Array(1), 0);
  const ends = [gate[Symbol.asyncDispose](), gate[Symbol.asyncDispose]()];
  finish();
  await Promise.all([reading, ...ends]);
  assert.deepEqual(events, ['read', 'disposed']);
});
