import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError, faulty, MemoryDevice, type PendingCall } from '@strata/block';
import { assertSameBytes } from '@strata/testkit';

const fail = new DiskError('io', 'Input/output error');

test('a call that is to fail changes nothing', async () => {
  await using memory = new MemoryDevice(100);
  await memory.write(new Uint8Array(100).fill(7), 0);
  const file = faulty(memory, () => ({ fail }));
  for (const call of [
    file.write(Uint8Array.of(1), 0),
    file.zero(0, 10),
    file.discard(0, 10),
    file.truncate(5),
    file.flush(),
    file.read(new Uint8Array(1), 0),
    file.extentAt(0, 1),
  ]) {
    await assert.rejects(call, fail);
  }
  assertSameBytes(memory.bytes(), new Uint8Array(100).fill(7));
});

test('a write that is cut stores its first bytes, and fails or lies', async () => {
  await using memory = new MemoryDevice(10);
  const torn = faulty(memory, () => ({ cut: 2, fail }));
  await assert.rejects(torn.write(Uint8Array.of(1, 2, 3, 4), 0), fail);
  const lying = faulty(memory, () => ({ cut: 1 }));
  await lying.write(Uint8Array.of(8, 9), 6);
  assert.deepEqual([...memory.bytes()], [1, 2, 0, 0, 0, 0, 8, 0, 0, 0]);
});

test('a call that is to wait waits', async () => {
  await using memory = new MemoryDevice(10);
  let release = (): void => {};
  const wait = new Promise<void>((resolve) => {
    release = resolve;
  });
  const file = faulty(memory, () => ({ wait }));
  const writing = file.write(Uint8Array.of(1), 0);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(memory.bytes()[0], 0);
  release();
  await writing;
  assert.equal(memory.bytes()[0], 1);
});

test('calls are counted, and the chosen one alone is spoiled', async () => {
  await using memory = new MemoryDevice(10);
  const calls: PendingCall[] = [];
  const file = faulty(memory, (call) => {
    calls.push(call);
    return call.index === 1 ? { fail } : undefined;
  });
  await file.write(Uint8Array.of(1), 0);
  await assert.rejects(file.write(Uint8Array.of(1), 1), fail);
  await file.flush();
  assert.equal(file.tryRead(new Uint8Array(1), 0), false);
  assert.deepEqual(calls, [
    { index: 0, call: 'write', offset: 0, length: 1 },
    { index: 1, call: 'write', offset: 1, length: 1 },
    { index: 2, call: 'flush', offset: 0, length: 0 },
  ]);
});
