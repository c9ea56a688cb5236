import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { write } from '../src/write.ts';
import { filled, newImage, reopened } from './new-image.ts';

const K64 = 65_536;

test('every structure of an image is known by its place', async () => {
  const { image, below } = await newImage({ size: 2 ** 20 });
  await write(image, filled(K64, 1), 0, below);
  const { structures } = image;
  const names = [0, 1, 2, 3, 4, 5].map((cluster) => structures.at(cluster * K64 + 512, 512));
  assert.deepEqual(names, [
    'qcow2_header',
    'refcount table',
    'refcount block',
    undefined, // behind the one sector that the L1 table takes
    'active L2 table',
    undefined,
  ]);
  assert.equal(structures.at(3 * K64, 8), 'active L1 table');
  assert.equal(structures.at(5 * K64 - 1, 2), 'active L2 table');
  assert.equal(structures.at(3 * K64 + 4096, 2 * K64), 'active L2 table');
});

test('a table that moved leaves its old place free', async () => {
  const { image, below } = await newImage({ size: 2 ** 20, clusterSize: 512 });
  const old = image.l2.parent.at;
  await image.l2.parent.loadAll();
  const run = await image.allocator.allocateInOneRun(1);
  image.l2.parent.move(run.at, image.l2.parent.entries);
  assert.equal(image.structures.at(old, 8), undefined);
  assert.equal(image.structures.at(run.at, 8), 'active L1 table');
  assert.ok(below);
});

test('the snapshot table is one of them', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await qemuImg.create(path, 2 ** 20);
  await qemuImg.ok('snapshot', '-c', 'one', path);
  const memory = new MemoryDevice();
  await memory.write(await readFile(path), 0);
  const { image } = await reopened(memory);
  assert.equal(image.structures.at(image.header.snapshotsAt, 8), 'snapshot table');
  assert.throws(() => image.structures.check(image.header.snapshotsAt, 8), {
    code: 'corrupt',
    message: 'Preventing invalid write on metadata (overlaps with snapshot table)',
  });
});
