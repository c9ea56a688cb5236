import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { filled, newImage } from './new-image.ts';

const TIB = 2 ** 40;

test('an empty terabyte is one answer', async () => {
  const file = new MemoryDevice();
  await createQcow2(file, { size: TIB });
  const source = await qcow2Format.openSource(file);
  assert.deepEqual(await source.map(5, TIB), { kind: 'below', length: TIB - 5 });
});

test('an empty range ends where a table begins', async () => {
  const { image, below } = await newImage({ size: TIB });
  const reach = image.geometry.l2Reach;
  await write(image, filled(512, 1), 7 * reach, below);
  assert.deepEqual(await image.reader.map(reach, TIB), { kind: 'below', length: 6 * reach });
});

test('an L1 table of 32 MiB past the end of the file costs no memory', async () => {
  const { memory } = await newImage({ size: 2 ** 20, clusterSize: 512 });
  const header = Buffer.from(memory.bytes().subarray(0, 48));
  header.writeUInt32BE(2 ** 22, 36);
  header.writeBigUInt64BE(2n ** 40n, 40);
  header.writeBigUInt64BE(2n ** 37n, 24);
  await memory.write(header, 0);
  const source = await qcow2Format.openSource(memory);
  const before = process.memoryUsage().arrayBuffers;
  for (let at = 0; at < 2 ** 37; ) at += (await source.map(at, 2 ** 37)).length;
  assert.ok(process.memoryUsage().arrayBuffers - before < 2 ** 20);
});

describe('tryMap', () => {
  test('answers as soon as the tables are in memory', async () => {
    const { image, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(70_000, 1), 100, below);
    await image.reader.map(0, 1);
    assert.deepEqual(image.reader.tryMap(5, 10), await image.reader.map(5, 10));
  });

  test('never throws for damage: map tells it', async () => {
    const { image, below } = await newImage({ size: 2 ** 20 });
    await write(image, filled(512, 1), 0, below);
    await image.reader.map(0, 1);
    (await image.l2.get(0)).view.setUint32(4, 0x1200);
    assert.equal(image.reader.tryMap(0, 1), undefined);
    await assert.rejects(image.reader.map(0, 1), {
      code: 'corrupt',
      message: /^Cluster allocation offset 0x1200/,
    });
  });
});

test('what was called encoded is read as what has become of it', async () => {
  const { image, below } = await newImage({ size: 2 ** 20 });
  await write(image, filled(65_536, 1), 0, below);
  await zero(image, 65_536, 65_536, below, {});
  const into = new Uint8Array(3 * 65_536).fill(9);
  await image.reader.read(into, 0);
  assert.ok(into.subarray(0, 65_536).every((byte) => byte === 1));
  assert.ok(into.subarray(65_536).every((byte) => byte === 0));
});
