import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { checkImage } from '../src/check.ts';
import { createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { Image } from '../src/image.ts';

/** An image of clusters of 512 bytes; with refcounts of 64 bits a block counts 64 of them. */
async function newImage(refcountBits = 64, size = 65_536): Promise<Image> {
  const file = new MemoryDevice();
  await createQcow2(file, { clusterSize: 512, refcountBits, size });
  return new Image(file, await readHeader(file), {});
}

/** Clusters that a fresh image of that shape uses: header, refcount table, block, L1 table. */
const FRESH = 4;

describe('a run of clusters', () => {
  test('is taken from the lowest free cluster on', async () => {
    const { allocator } = await newImage();
    assert.deepEqual(await allocator.allocate(10), { at: FRESH * 512, count: 10, virgin: true });
    assert.deepEqual(await allocator.allocate(3), { at: (FRESH + 10) * 512, count: 3, virgin: true });
  });

  test('fills a hole, and is no longer than it', async () => {
    const { allocator } = await newImage();
    const run = await allocator.allocate(20);
    await allocator.drop(run.at / 512 + 5, 3);
    assert.deepEqual(await allocator.allocate(10), { at: run.at + 5 * 512, count: 3, virgin: false });
    assert.equal((await allocator.allocate(10)).at, run.at + 20 * 512);
  });

  test('ends at the end of a refcount block, and the next block counts itself', async () => {
    const { allocator, refcounts } = await newImage();
    assert.equal((await allocator.allocate(1000)).count, 64 - FRESH);
    const next = await allocator.allocate(1000);
    assert.deepEqual([next.at, next.count], [65 * 512, 63]);
    assert.equal(refcounts.peek(64), 1);
    assert.equal(refcounts.blocks.isAt(64 * 512), true);
  });

  test('is never handed out twice to callers side by side', async () => {
    const { allocator } = await newImage();
    const runs = await Promise.all(Array.from({ length: 300 }, () => allocator.allocate(3)));
    const clusters = runs.flatMap(({ at, count }) => Array.from({ length: count }, (_, i) => at / 512 + i));
    assert.equal(new Set(clusters).size, clusters.length);
  });

  test('in one piece may be longer than what a block counts', async () => {
    const { allocator, refcounts, file } = await newImage();
    const { size } = file;
    const run = await allocator.allocateInOneRun(500);
    for (let cluster = run.at / 512; cluster < run.at / 512 + 500; cluster++)
      assert.equal(refcounts.peek(cluster), 1);
    const other = await allocator.allocateInOneRun(200);
    assert.ok(other.at >= run.at + 500 * 512 || other.at + 200 * 512 <= run.at);
    assert.equal(file.size, size, 'all of it in memory so far');
  });

  test('in one piece skips holes that are too small', async () => {
    const { allocator } = await newImage(16);
    const run = await allocator.allocate(100);
    await allocator.drop(run.at / 512 + 10, 4);
    assert.equal((await allocator.allocateInOneRun(5)).at, run.at + 100 * 512);
    assert.equal((await allocator.allocateInOneRun(4)).at, run.at + 10 * 512);
  });
});

describe('the refcount table', () => {
  test('grows, moves, and counts itself and its new blocks', async () => {
    const image = await newImage();
    const { allocator, refcounts, barrier, file, quarantine } = image;
    // One cluster of the table leads to 64 blocks of 64 refcounts.
    for (let got = 0; got < 64 * 63 + 10; ) got += (await allocator.allocate(100)).count;
    assert.equal(refcounts.table.entries, 128);
    assert.equal(quarantine.clusters, 1, 'the old table, until the header leads to the new one');
    await barrier.run();
    await barrier.run();
    const header = await readHeader(file);
    assert.equal(header.refcountTableClusters, 2);
    assert.equal(header.refcountTableAt, refcounts.table.at);
    const report = await checkImage(file);
    assert.equal(report.corruptions + report.checkErrors, 0);
    assert.equal(refcounts.peek(1), 0, 'where the old table was');
  });

  test('that would pass 8 MiB leaves no space', async () => {
    const file = new MemoryDevice();
    await createQcow2(file, { clusterSize: 512, refcountBits: 64, size: 512 });
    const image = new Image(file, await readHeader(file), {});
    // 2^20 entries of 64 clusters each; the search begins behind them.
    image.refcounts.table.adopt(image.refcounts.table.at, 2 ** 20);
    image.allocator.restart(0);
    await assert.rejects(image.allocator.allocateInOneRun(2 ** 27), { code: 'no-space' });
  });
});

describe('in a damaged image', () => {
  test('the header is not handed out, though its refcount is 0', async () => {
    const { allocator, refcounts } = await newImage();
    const block = await refcounts.blocks.get(0);
    refcounts.fill(block, 0, 1, 0);
    await assert.rejects(allocator.allocate(1), {
      code: 'corrupt',
      message: 'Preventing invalid allocation of cluster at offset 0',
    });
  });

  test('a table in use is not handed out, though its refcount is 0', async () => {
    const { allocator, refcounts } = await newImage();
    refcounts.fill(await refcounts.blocks.get(0), 1, 1, 0);
    await assert.rejects(allocator.allocate(1), { code: 'corrupt', message: /overlaps with refcount table/ });
  });

  test('a refcount block that two entries lead to ends the search at once', async () => {
    const { allocator, refcounts } = await newImage();
    const { table, blocks } = refcounts;
    const block = await blocks.get(0);
    refcounts.fill(block, 0, 64, 1);
    for (let index = 1; index < 64; index++) table.set(index, 0, block.at);
    await assert.rejects(allocator.allocate(1), {
      code: 'corrupt',
      message: /^two entries .* lead to 0x400$/,
    });
  });

  test('a cluster with refcount 0 cannot be dropped', async () => {
    const { allocator } = await newImage();
    await assert.rejects(allocator.drop(50, 1), { code: 'corrupt', message: /0x6400 .* refcount of 0/ });
  });
});

test('what was never written is told apart from what was', async () => {
  const { allocator } = await newImage();
  const run = await allocator.allocate(5);
  assert.equal(run.virgin, true);
  await allocator.release(run);
  assert.equal((await allocator.allocate(5)).virgin, false, 'a failed write may have left bytes there');
});
