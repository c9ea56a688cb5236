import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkedDevice, MemoryDevice } from '@strata/block';
import { assertSameBytes, blockSuite } from '@strata/testkit';

blockSuite({
  name: 'a memory device',
  open: async () => {
    const memory = new MemoryDevice(300_001);
    const device = checkedDevice(memory);
    return { device, [Symbol.asyncDispose]: () => device[Symbol.asyncDispose]() };
  },
  skip: [{ law: 'durable', reason: 'memory ends with its device' }],
});

test('a write past the end extends it, and bytes past the end read as zeros', async () => {
  await using memory = new MemoryDevice(10);
  await memory.write(Uint8Array.of(1, 2), 99_999);
  assert.equal(memory.size, 100_001);
  const into = new Uint8Array(4).fill(9);
  await memory.read(into, 99_998);
  assertSameBytes(into, Uint8Array.of(0, 1, 2, 0));
  await memory.read(into, 2 ** 50);
  assertSameBytes(into, new Uint8Array(4));
  assert.deepEqual(memory.tryExtentAt(100_001, 5), { offset: 100_001, length: 5, kind: 'zero', depth: 1 });
});

test('what truncation cut off does not come back when it grows again', async () => {
  await using memory = new MemoryDevice();
  await memory.write(new Uint8Array(200_000).fill(5), 0);
  await memory.truncate(70_000);
  await memory.truncate(200_000);
  const bytes = memory.bytes();
  assertSameBytes(bytes.subarray(0, 70_000), new Uint8Array(70_000).fill(5));
  assertSameBytes(bytes.subarray(70_000), new Uint8Array(130_000));
});

test('zeroed and discarded pages take no memory; allocated zeros do', async () => {
  await using memory = new MemoryDevice();
  await memory.write(new Uint8Array(1 << 20).fill(5), 0);
  assert.equal(await memory.allocated(), 1 << 20);
  await memory.zero(0, 1 << 19);
  assert.equal(await memory.allocated(), 1 << 19);
  await memory.discard(0, 1 << 20);
  assert.equal(await memory.allocated(), 0);
  await memory.zero(0, 1 << 17, { allocate: true });
  assert.equal(await memory.allocated(), 1 << 17);
});

test('a hole of a petabyte is one extent, and is zeroed at once', async () => {
  await using memory = new MemoryDevice(2 ** 50);
  await memory.write(Uint8Array.of(1), 2 ** 49);
  assert.equal(memory.tryExtentAt(0, 2 ** 50).length, 2 ** 49);
  await memory.zero(0, 2 ** 50);
  assert.deepEqual(memory.tryExtentAt(0, 2 ** 50), { offset: 0, length: 2 ** 50, kind: 'zero', depth: 1 });
});
