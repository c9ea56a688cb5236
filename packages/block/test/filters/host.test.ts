import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkedDevice, hostFile, hostSource, MemoryDevice } from '@strata/block';
import { assertSameBytes, blockSuite } from '@strata/testkit';

/** A disk of `size` bytes that ends where it ends. */
const disk = (size: number) => checkedDevice(new MemoryDevice(size));

blockSuite({
  name: 'a disk as a host file',
  open: async () => {
    const inner = disk(250_001);
    const device = checkedDevice(hostFile(inner));
    return {
      device,
      reopen: async () => checkedDevice(hostFile(inner)),
      [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
    };
  },
});

test('bytes past the end of the disk read as zeros', async () => {
  const inner = disk(10);
  await inner.write(new Uint8Array(10).fill(7), 0);
  const source = hostSource(inner, 'nbd://host/export');
  assert.equal(source.path, 'nbd://host/export');
  assert.equal(source.size, 10);
  for (const [offset, expected] of [
    [6, [7, 7, 7, 7, 0, 0]],
    [10, [0, 0, 0, 0, 0, 0]],
    [2 ** 50, [0, 0, 0, 0, 0, 0]],
  ] as const) {
    const into = new Uint8Array(6).fill(9);
    await source.read(into, offset);
    assert.deepEqual([...into], expected);
    into.fill(9);
    assert.equal(source.tryRead(into, offset), true);
    assert.deepEqual([...into], expected);
  }
  assert.equal((await source.extentAt(8, 100)).length, 2);
  assert.deepEqual(await source.extentAt(10, 100), { offset: 10, length: 100, kind: 'zero', depth: 1 });
});

test('whatever would make it grow has no space and changes nothing', async () => {
  const inner = disk(10);
  const file = hostFile(inner);
  const refusal = { code: 'no-space' };
  await assert.rejects(file.write(Uint8Array.of(1, 1, 1), 8), refusal);
  await assert.rejects(file.zero(8, 3), refusal);
  await assert.rejects(file.truncate(11), refusal);
  await assert.rejects(file.truncate(9), { code: 'not-supported' });
  await file.truncate(10);
  await file.discard(8, 100);
  const into = new Uint8Array(10).fill(9);
  await inner.read(into, 0);
  assertSameBytes(into, new Uint8Array(10));
});

test('closing the host file leaves the disk open', async () => {
  const inner = disk(10);
  await hostFile(inner)[Symbol.asyncDispose]();
  await hostSource(inner)[Symbol.asyncDispose]();
  assert.equal(inner.tryRead(new Uint8Array(1), 0), true);
});
