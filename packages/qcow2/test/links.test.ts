import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { encodeCompressedHigh } from '../src/entries.ts';
import { type Geometry, geometryOf } from '../src/geometry.ts';
import { compressedClusters } from '../src/links.ts';
import { write } from '../src/write.ts';
import { bytesOf, faultsOf, filled, newImage, reopened } from './new-image.ts';
import type { RecordingFile } from './recording.ts';

const K64 = 65_536;

/** An image of 4 clusters of data that a snapshot shares. */
async function sharedImage() {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await qemuImg.create(path, 8 * K64);
  await qemuIo(path, ['write -P 1 0 256k']);
  await qemuImg.ok('snapshot', '-c', 'one', path);
  const memory = new MemoryDevice();
  await memory.write(await readFile(path), 0);
  return reopened(memory);
}

describe('a table that a snapshot shares', () => {
  test('is copied before the first change, once for all who change it', requires('qemu-img'), async () => {
    const made = await sharedImage();
    const { links, l2, refcounts, quarantine } = made.image;
    const old = (await l2.get(0)).at;
    assert.equal(links.peek(0), undefined);
    await Promise.all([links.make(0), links.make(0)]);
    const copy = links.peek(0);
    assert.notEqual(copy?.at, old);
    assert.equal(quarantine.clusters, 1);
    assert.equal(refcounts.peek(old / K64), 2, 'until the L1 table that leads to the copy is in the file');
    assert.deepEqual(await faultsOf(made), []);
    assert.equal(refcounts.peek(old / K64), 1);
  });

  test('and its clusters are not changed by a write', requires('qemu-img'), async () => {
    const made = await sharedImage();
    const before = made.memory.bytes();
    const table = (await made.image.l2.get(0)).at;
    await write(made.image, filled(1000, 2), K64 + 100, made.memory);
    const expected = filled(4 * K64, 1);
    expected.fill(2, K64 + 100, K64 + 1100);
    assert.deepEqual(await bytesOf(made.image, 0, 4 * K64), expected);
    assert.deepEqual(await faultsOf(made), []);
    const after = made.memory.bytes();
    assert.deepEqual(after.subarray(table, table + K64), before.subarray(table, table + K64));
  });
});

describe('a table whose exclusive bit is clear', () => {
  test('stays where it is if its refcount is 1, and gets the bit', async () => {
    const made = await newImage({ size: 8 * K64 });
    const { l2 } = made.image;
    await write(made.image, filled(K64, 1), 0, made.below);
    await made.image.barrier.run();
    const { at } = await l2.get(0);
    await made.memory.write(Uint8Array.of(0), l2.parent.at);
    const again = await reopened(made.memory);
    await again.image.l2.get(0);
    assert.equal(again.image.links.peek(0), undefined);
    await again.image.links.make(0);
    assert.equal(again.image.links.peek(0)?.at, at);
    assert.deepEqual(await faultsOf(again), []);
  });

  test('is corrupt if its refcount is 0', async () => {
    const made = await newImage({ size: 8 * K64 });
    await write(made.image, filled(K64, 1), 0, made.below);
    await made.image.close();
    const again = await reopened(made.memory);
    const { refcounts, l2, links } = again.image;
    const { at } = await l2.get(0);
    refcounts.fill(await refcounts.blocks.get(0), at / K64, 1, 0);
    await assert.rejects(links.make(0), { code: 'corrupt', message: /refcount of 0 .* in use at 0x/ });
  });
});

const placesOf = (file: RecordingFile): number[][] =>
  file.changes.map(({ offset, length }) => [offset, length]);

describe('in a damaged image', () => {
  test('a table that lies on another structure can be read but not changed', async () => {
    // The refcount table, a refcount block, the L1 table itself.
    for (const cluster of [1, 2, 3]) {
      const made = await newImage({ size: 8 * K64 });
      await made.memory.write(Uint8Array.of(0x80, 0, 0, 0, 0, cluster, 0, 0), 3 * K64);
      const { image, file } = await reopened(made.memory);
      await image.refcounts.get(0);
      await image.l2.get(0);
      const message = /^Preventing invalid write on [a-zL12 ]+ \(overlaps with [a-zL12 ]+\)$/;
      await assert.rejects(write(image, filled(10, 1), 7 * K64, made.below), { code: 'corrupt', message });
      assert.deepEqual(placesOf(file), [[72, 8]], 'the mark in the header, and nothing else');
    }
  });

  test('a table with the exclusive bit and two uses is copied all the same', async () => {
    const made = await newImage({ size: 8 * K64 });
    await write(made.image, filled(K64, 1), 0, made.below);
    await made.image.close();
    const { image } = await reopened(made.memory);
    const { at } = await image.l2.get(0);
    image.refcounts.fill(await image.refcounts.blocks.get(0), at / K64, 1, 2);
    await image.links.make(0);
    assert.notEqual(image.links.peek(0)?.at, at);
  });

  test('a table that two entries lead to can be read but not changed', async () => {
    const made = await newImage({ size: 2 ** 30 });
    await write(made.image, filled(K64, 1), 0, made.below);
    await made.image.close();
    await made.memory.write(made.memory.bytes().slice(3 * K64, 3 * K64 + 8), 3 * K64 + 8);
    const { image } = await reopened(made.memory);
    const reach = image.geometry.l2Reach;
    assert.deepEqual(await bytesOf(image, reach, 100), await bytesOf(image, 0, 100));
    const message = 'two entries of the L1 table lead to 0x40000';
    await assert.rejects(write(image, filled(10, 1), 2 * K64, made.below), { code: 'corrupt', message });
  });

  test('an L1 or refcount table that lies on another structure stops every change', async () => {
    const made = await newImage({ size: 8 * K64 });
    const header = Buffer.from(made.memory.bytes().subarray(0, 72));
    header.writeBigUInt64BE(BigInt(K64), 40);
    await made.memory.write(header, 0);
    const { image, file } = await reopened(made.memory);
    const message = 'Preventing invalid write on active L1 table (overlaps with refcount table)';
    await assert.rejects(write(image, filled(10, 1), 0, made.below), { code: 'corrupt', message });
    assert.deepEqual(placesOf(file), [[72, 8]], 'the mark in the header, and nothing else');
  });
});

test('compressed data touches every host cluster up to the end of its last sector', () => {
  const spanOf = (clusterBits: number, at: number, length: number) => {
    const geometry: Geometry = geometryOf({ version: 3, clusterBits, refcountOrder: 4, incompatible: 0n });
    return compressedClusters(geometry, encodeCompressedHigh(geometry, at, length), at);
  };
  assert.deepEqual(spanOf(9, 5120, 100), { first: 10, count: 1 });
  assert.deepEqual(spanOf(9, 5120 + 500, 100), { first: 10, count: 2 });
  assert.deepEqual(spanOf(12, 3 * 4096 - 10, 11), { first: 2, count: 2 });
  assert.deepEqual(spanOf(12, 3 * 4096 - 600, 100), { first: 2, count: 1 });
});
