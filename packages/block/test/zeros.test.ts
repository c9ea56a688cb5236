import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isZero, isZeroRange, zeroRunAt } from '@strata/block';

test('zeros are zeros at every length', () => {
  for (const length of [0, 1, 2, 7, 4096, 65535, 65536, 65537, 1 << 20]) {
    assert.equal(isZero(new Uint8Array(length)), true, String(length));
  }
});

test('one byte anywhere is found', () => {
  for (const length of [1, 2, 3, 100, 65536, 65537, 200_000]) {
    for (const at of [0, 1, length >>> 1, (length >>> 1) + 1, 65535, 65536, length - 2, length - 1]) {
      if (at < 0 || at >= length) continue;
      const bytes = new Uint8Array(length);
      bytes[at] = 1;
      assert.equal(isZero(bytes), false, `byte ${at} of ${length}`);
    }
  }
});

test('bytes outside the range do not count', () => {
  const bytes = Uint8Array.of(1, 0, 0, 0, 1);
  assert.equal(isZeroRange(bytes, 1, 4), true);
  assert.equal(isZeroRange(bytes, 0, 4), false);
  assert.equal(isZeroRange(bytes, 1, 5), false);
  assert.equal(isZeroRange(bytes, 2, 2), true);
});

/** The runs of `bytes`, as `length` with z for zeros and d for data. */
function runs(bytes: Uint8Array, block: number, offset?: number): string[] {
  const found: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const run = zeroRunAt(bytes, at, block, offset);
    found.push(`${run.length}${run.zero ? 'z' : 'd'}`);
    at += run.length;
  }
  return found;
}

test('runs of blocks are as long as can be', () => {
  const bytes = new Uint8Array(100);
  assert.deepEqual(runs(bytes, 10), ['100z']);
  bytes[35] = 1;
  bytes[49] = 1;
  assert.deepEqual(runs(bytes, 10), ['30z', '20d', '50z']);
  bytes[99] = 1;
  assert.deepEqual(runs(bytes, 10), ['30z', '20d', '40z', '10d']);
  assert.deepEqual(runs(bytes, 64), ['100d']);
});

test('blocks stand where they stand on the disk, whatever the buffer begins with', () => {
  const bytes = new Uint8Array(25);
  bytes[6] = 1;
  assert.deepEqual(runs(bytes, 10, 7), ['3z', '10d', '12z']);
  assert.deepEqual(runs(bytes, 10, 1000), ['10d', '15z']);
});
