import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice, readOnly } from '@strata/block';
import { assertSameBytes } from '@strata/testkit';

test('the view reads what the disk has and cannot write', async () => {
  await using memory = new MemoryDevice(100_000);
  await memory.write(Uint8Array.of(1, 2, 3), 50_000);
  const view = readOnly(memory);
  const into = new Uint8Array(3);
  await view.read(into, 50_000);
  assertSameBytes(into, Uint8Array.of(1, 2, 3));
  assert.equal(view.tryRead(into, 0), true);
  assertSameBytes(into, new Uint8Array(3));
  assert.deepEqual(await view.extentAt(0, 100), await memory.extentAt(0, 100));
  assert.deepEqual(view.tryExtentAt(50_000, 10), memory.tryExtentAt(50_000, 10));
  for (const name of ['write', 'zero', 'discard', 'flush', 'truncate']) {
    assert.equal(name in view, false, name);
  }
});

test('closing the view leaves the disk open', async () => {
  await using memory = new MemoryDevice(10);
  const view = readOnly(memory);
  await view[Symbol.asyncDispose]();
  await assert.rejects(view.read(new Uint8Array(1), 0), { code: 'closed' });
  assert.equal(memory.tryRead(new Uint8Array(1), 0), true);
});
