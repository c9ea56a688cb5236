import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nullDevice } from '@strata/block';
import { assertSameBytes } from '@strata/testkit';

test('it reads as zeros, whatever is written to it', async () => {
  await using disk = nullDevice(2 ** 50);
  await disk.write(Uint8Array.of(1, 2, 3), 2 ** 49);
  const into = Uint8Array.of(9, 9, 9);
  await disk.read(into, 2 ** 49);
  assertSameBytes(into, new Uint8Array(3));
  into.fill(9);
  assert.equal(disk.tryRead(into, 5), true);
  assertSameBytes(into, new Uint8Array(3));
  assert.deepEqual(await disk.extentAt(7, 2 ** 51), {
    offset: 7,
    length: 2 ** 50 - 7,
    kind: 'zero',
    depth: 1,
  });
});

test('it has a size like every other disk', async () => {
  await using disk = nullDevice(10);
  await assert.rejects(disk.write(new Uint8Array(11), 0), RangeError);
});
