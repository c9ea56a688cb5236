import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deviceWindow, MemoryDevice, sourceWindow } from '@strata/block';
import { assertSameBytes, blockSuite, randomFrom } from '@strata/testkit';

blockSuite({
  name: 'a window on a memory device',
  open: async () => {
    const memory = new MemoryDevice(500_000);
    await memory.write(randomFrom(1).bytes(500_000), 0);
    const device = deviceWindow(memory, 100_003, 250_001);
    return {
      device,
      reopen: async () => deviceWindow(memory, 100_003, 250_001),
      [Symbol.asyncDispose]: () => memory[Symbol.asyncDispose](),
    };
  },
});

test('nothing outside the window is touched', async () => {
  await using memory = new MemoryDevice(100);
  await memory.write(new Uint8Array(100).fill(7), 0);
  const window = deviceWindow(memory, 10, 80);
  await window.zero(0, 80);
  await window.write(new Uint8Array(80).fill(8), 0);
  const bytes = memory.bytes();
  assertSameBytes(bytes.subarray(0, 10), new Uint8Array(10).fill(7));
  assertSameBytes(bytes.subarray(10, 90), new Uint8Array(80).fill(8));
  assertSameBytes(bytes.subarray(90), new Uint8Array(10).fill(7));
});

test('a window outside the disk is a RangeError', async () => {
  await using memory = new MemoryDevice(100);
  for (const [start, size] of [
    [90, 11],
    [101, 0],
    [-1, 5],
  ] as const) {
    assert.throws(() => sourceWindow(memory, start, size), RangeError);
    assert.throws(() => deviceWindow(memory, start, size), RangeError);
  }
});

test('closing a window leaves the disk open', async () => {
  await using memory = new MemoryDevice(100);
  const window = sourceWindow(memory, 0, 10);
  await window[Symbol.asyncDispose]();
  assert.throws(() => window.tryRead(new Uint8Array(1), 0), { code: 'closed' });
  assert.equal(memory.tryRead(new Uint8Array(1), 0), true);
});
