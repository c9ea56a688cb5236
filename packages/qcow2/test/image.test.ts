import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DiskError } from '@strata/block';
import { write } from '../src/write.ts';
import { filled, newImage, reopened } from './new-image.ts';

describe('the first change', () => {
  test('that cannot clear the autoclear bits fails, and the next one tries again', async () => {
    const { memory, below } = await newImage({ size: 2 ** 20 });
    await memory.write(Uint8Array.of(4), 95);
    const { image, file } = await reopened(memory);
    file.fault = (kind) => (kind === 'flush' ? new DiskError('io', 'no') : undefined);
    await assert.rejects(write(image, filled(10, 1), 0, below), { code: 'io' });
    assert.equal(file.changes.length, 1, 'nothing but the bits was written');
    file.fault = () => undefined;
    await write(image, filled(10, 1), 0, below);
    const bits = new Uint8Array(8);
    await memory.read(bits, 88);
    assert.deepEqual(bits, new Uint8Array(8));
  });

  test('clears them once, whoever comes with it', async () => {
    const { memory, below } = await newImage({ size: 2 ** 20 });
    await memory.write(Uint8Array.of(4), 95);
    const { image, file } = await reopened(memory);
    await Promise.all([0, 1, 2].map((cluster) => write(image, filled(10, 1), cluster * 65_536, below)));
    assert.equal(file.changes.filter(({ offset }) => offset === 72).length, 1);
  });
});

test('changes in memory are bounded: a barrier runs by itself', async () => {
  // One L2 table for every 2 MiB of the disk, 4 KiB each; 8 MiB of them are changed after 4 GiB.
  const { image, file, below } = await newImage({ size: 2 ** 33, clusterSize: 4096 });
  for (let at = 0; at < 2 ** 33; at += 2 ** 21) await write(image, filled(512, 1), at, below);
  assert.ok(file.flushes.length > 0);
  assert.ok(image.l2.dirtyBytes <= 2 ** 25, `${image.l2.dirtyBytes}`);
});

test('closing writes what memory holds, and counts what it released', async () => {
  const { image, file, below } = await newImage({ size: 2 ** 20 });
  await write(image, filled(10, 1), 0, below);
  await image.close();
  assert.equal(image.barrier.isNeeded, false);
  assert.ok(file.flushes.length > 0);
  await assert.rejects(write(image, filled(10, 1), 0, below), { code: 'closed' });
});
