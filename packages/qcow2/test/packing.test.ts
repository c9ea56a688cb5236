import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newImage } from './new-image.ts';

const options = { clusterSize: 4096, size: 2 ** 20 } as const;

test('streams follow each other, across the border of two clusters that follow each other', async () => {
  const { image } = await newImage(options);
  const { packer, refcounts } = image;
  const first = await packer.place(1000);
  assert.equal(first.at % 4096, 0);
  const second = await packer.place(3000);
  assert.equal(second.at, first.at + 1000);
  const across = await packer.place(500);
  assert.equal(across.at, first.at + 4000);
  const cluster = first.at / 4096;
  assert.deepEqual([await refcounts.get(cluster), await refcounts.get(cluster + 1)], [3, 1]);
});

test('a stream that does not fit begins a new cluster where the next one is taken', async () => {
  const { image } = await newImage(options);
  const first = await image.packer.place(3000);
  const taken = await image.allocator.allocate(1);
  const second = await image.packer.place(2000);
  assert.equal(second.at, taken.at + 4096);
  assert.equal(await image.refcounts.get(first.at / 4096), 1);
  assert.equal((await image.packer.place(100)).at, second.at + 2000);
});

test('a cluster that is full to its end is not gone on with', async () => {
  const { image } = await newImage(options);
  const first = await image.packer.place(4096);
  const taken = await image.allocator.allocate(1);
  assert.equal((await image.packer.place(10)).at, taken.at + 4096);
  assert.equal(await image.refcounts.get(first.at / 4096), 1);
});

test('a cluster takes no more streams than its refcount can count', async () => {
  for (const [refcountBits, most] of [
    [1, 1],
    [2, 3],
  ] as const) {
    const { image } = await newImage({ ...options, refcountBits });
    const places = [];
    for (let i = 0; i < 7; i++) places.push(await image.packer.place(100));
    const clusters = places.map(({ at }) => Math.floor(at / 4096));
    for (const cluster of new Set(clusters)) {
      const count = clusters.filter((each) => each === cluster).length;
      assert.ok(count <= most);
      assert.equal(await image.refcounts.get(cluster), count);
    }
  }
});

test('a place that is given back counts no more, and its cluster is not gone on with', async () => {
  const { image } = await newImage(options);
  const first = await image.packer.place(1000);
  const second = await image.packer.place(1000);
  await image.packer.release(second);
  assert.equal(await image.refcounts.get(first.at / 4096), 1);
  assert.notEqual(Math.floor((await image.packer.place(1000)).at / 4096), first.at / 4096);
  await image.packer.release(first);
  assert.equal(await image.refcounts.get(first.at / 4096), 0);
  assert.equal((await image.allocator.allocate(1)).at, first.at);
});
