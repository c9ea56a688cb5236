import assert from 'node:assert/strict';
import { test } from 'node:test';
import { write } from '../src/write.ts';
import { filled, newImage } from './new-image.ts';

test('a cluster without a block is not in use', async () => {
  const { image } = await newImage({ size: 2 ** 20, clusterSize: 512, refcountBits: 64 });
  assert.equal(await image.refcounts.get(64 * 5), 0);
  assert.equal(await image.refcounts.get(2 ** 40), 0, 'nor one past what the table reaches');
});

test('every width counts', async () => {
  for (const refcountBits of [1, 2, 4, 8, 16, 32, 64]) {
    const { image, below } = await newImage({ size: 2 ** 20, refcountBits });
    await write(image, filled(65_536 * 3, 1), 0, below);
    // Header, table, block, L1 table, L2 table and three clusters of data.
    const counts = await Promise.all(
      Array.from({ length: 10 }, (_, cluster) => image.refcounts.get(cluster)),
    );
    assert.deepEqual(counts, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0], `${refcountBits}`);
  }
});

test('a use more than there is cannot be taken away', async () => {
  const { image } = await newImage({ size: 2 ** 20 });
  await image.refcounts.get(0);
  assert.throws(() => image.refcounts.decrement(4, 1), {
    code: 'corrupt',
    message: 'the cluster at 0x40000 was in use with a refcount of 0',
  });
});

test('a refcount of 64 bits that no number holds cannot be changed', async () => {
  const { image } = await newImage({ size: 2 ** 20, refcountBits: 64 });
  const block = await image.refcounts.blocks.get(0);
  block.bytes.fill(0xff, 3 * 8, 4 * 8);
  assert.equal(image.refcounts.peek(3), Number.POSITIVE_INFINITY);
  assert.throws(() => image.refcounts.decrement(3, 1), { code: 'corrupt' });
});

test('a block at an unaligned place is corrupt, in the words of QEMU', async () => {
  const { memory } = await newImage({ size: 2 ** 20 });
  await memory.write(Uint8Array.of(0, 0, 0, 0, 0, 2, 2, 0), 65_536);
  const { reopened } = await import('./new-image.ts');
  const { image } = await reopened(memory);
  const message = 'Refblock offset 0x20200 unaligned (reftable index: 0x0)';
  await assert.rejects(image.refcounts.get(0), { code: 'corrupt', message });
});
