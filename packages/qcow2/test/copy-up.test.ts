import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { isZeroBelow, readOld, readsZeros } from '../src/copy-up.ts';
import { NO_ENTRY } from '../src/l2-entry.ts';
import { filled, newImage } from './new-image.ts';

const K64 = 65_536;
const UNALLOCATED = NO_ENTRY;
const ZERO = { ...NO_ENTRY, low: 1, zeros: 1 };

test('what is below is zeros where its extents say so, also past its end', async () => {
  const below = new MemoryDevice(4 * K64);
  await below.write(filled(10, 1), 2 * K64);
  assert.equal(await isZeroBelow(below, 0, 2 * K64), true);
  assert.equal(await isZeroBelow(below, K64, 2 * K64 + 1), false);
  assert.equal(await isZeroBelow(below, 3 * K64, 9 * K64), true);
  below.tryExtentAt = () => undefined as never;
  below.extentAt = async (offset, limit) => ({ offset, length: Math.min(limit, 7), kind: 'hole', depth: 0 });
  assert.equal(await isZeroBelow(below, 0, 100), true, 'small extents that have to be waited for');
});

test('an unallocated cluster reads as zeros without a backing file, whatever is handed in', async () => {
  const { image } = await newImage({ size: 4 * K64 });
  const below = new MemoryDevice(4 * K64);
  await below.write(filled(4 * K64, 7), 0);
  assert.equal(await readsZeros(image, UNALLOCATED, 0, K64, below), true);
  const into = filled(100, 9);
  await readOld(image, UNALLOCATED, into, 0, below);
  assert.deepEqual(into, new Uint8Array(100));
});

test('what was there is what is below up to the end of the disk, and zeros behind', async () => {
  const { image, below } = await newImage({ size: K64 + 512 }, { backed: true });
  const into = filled(1000, 9);
  await readOld(image, UNALLOCATED, into, K64 + 100, below);
  assert.ok(into.subarray(0, 412).every((byte) => byte === 0xbb));
  assert.ok(into.subarray(412).every((byte) => byte === 0));
  assert.equal(await readsZeros(image, UNALLOCATED, K64 + 512, 5000, below), true);
  assert.equal(await readsZeros(image, UNALLOCATED, K64 + 511, 5000, below), false);
});

test('a zero cluster hides what is below', async () => {
  const { image, below } = await newImage({ size: 4 * K64 }, { backed: true });
  assert.equal(await readsZeros(image, ZERO, 0, K64, below), true);
  const into = filled(100, 9);
  await readOld(image, ZERO, into, 0, below);
  assert.deepEqual(into, new Uint8Array(100));
});
