import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findFreeRun } from '../src/free-run.ts';
import { newImage } from './new-image.ts';

/** Blocks of 64 refcounts; the first four clusters are in use, and block 0 is in memory. */
async function refcounts() {
  const { image } = await newImage({ size: 32_768, clusterSize: 512, refcountBits: 64 });
  await image.refcounts.blocks.get(0);
  return image;
}

test('a run within a block needs no other', async () => {
  const image = await refcounts();
  const found = findFreeRun(image.refcounts, image.geometry, 60, 0);
  assert.deepEqual(found, { first: 4, absent: [], missing: undefined });
});

test('a run across regions without blocks makes room for them behind it', async () => {
  const image = await refcounts();
  const found = findFreeRun(image.refcounts, image.geometry, 200, 0);
  assert.deepEqual(found, { first: 4, absent: [1, 2, 3], missing: undefined });
  // 123 clusters and one block fill the regions 0 and 1; one cluster more reaches into region 2.
  assert.deepEqual(findFreeRun(image.refcounts, image.geometry, 123, 0).absent, [1]);
  assert.deepEqual(findFreeRun(image.refcounts, image.geometry, 124, 0).absent, [1, 2]);
});

test('a cluster in use in the middle starts the run anew', async () => {
  const image = await refcounts();
  image.refcounts.fill(await image.refcounts.blocks.get(0), 40, 1, 1);
  assert.equal(findFreeRun(image.refcounts, image.geometry, 36, 0).first, 4);
  assert.equal(findFreeRun(image.refcounts, image.geometry, 37, 0).first, 41);
});

test('a block that is not in memory, or past the table, is named', async () => {
  const { image } = await newImage({ size: 32_768, clusterSize: 512, refcountBits: 64 });
  assert.deepEqual(findFreeRun(image.refcounts, image.geometry, 1, 0), { first: 0, absent: [], missing: 0 });
  await image.refcounts.blocks.get(0);
  assert.equal(findFreeRun(image.refcounts, image.geometry, 64 * 64, 0).missing, 64);
});
