import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { layerSuite } from '@strata/testkit';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import type { ImageOptions } from '../src/image.ts';
import { qcow2Format, qcow2FormatWith } from '../src/layer.ts';
import { nothingBelow, readGuest } from './guest.ts';

const SIZE = 411 * 512;

async function newImage(options: Omit<CreateQcow2Options, 'size'>, size = SIZE): Promise<MemoryDevice> {
  const file = new MemoryDevice();
  await createQcow2(file, { ...options, size });
  return file;
}

function suite(
  name: string,
  options: Omit<CreateQcow2Options, 'size'>,
  backed: boolean,
  image: ImageOptions = {},
  withData = false,
): void {
  const backing = backed ? { backing: { name: 'below', format: 'raw' } } : {};
  const format = qcow2FormatWith(image);
  layerSuite({
    name,
    size: SIZE,
    backed,
    open: async () => {
      const data = new MemoryDevice();
      const dataFile = withData && { dataFile: { name: 'data', file: data } };
      const opening = { openDataFile: async () => data };
      const file = await newImage({ ...options, ...backing, ...dataFile });
      let layer = await format.open(file, opening);
      return {
        layer,
        reopen: async () => {
          await layer[Symbol.asyncDispose]();
          layer = await format.open(file, opening);
          return layer;
        },
        [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
      };
    },
  });
}

suite('a qcow2 image', {}, false);
suite('a qcow2 overlay', {}, true);
suite('a qcow2 image of subclusters', { clusterSize: 16_384, extendedL2: true }, false);
suite('a qcow2 overlay of subclusters with lazy refcounts', { extendedL2: true, lazyRefcounts: true }, true);
suite('a qcow2 image with a data file', { clusterSize: 4096 }, false, {}, true);
suite(
  'a qcow2 overlay with a data file and subclusters',
  { extendedL2: true },
  true,
  { discardHost: true },
  true,
);
suite('a qcow2 overlay of version 2', { version: 2 }, true);
suite('a qcow2 image of version 2 with small clusters', { version: 2, clusterSize: 512 }, false);
suite(
  'a qcow2 overlay with small clusters, wide refcounts and no room for tables',
  { clusterSize: 512, refcountBits: 64 },
  true,
  { l2CacheBytes: 1, discardHost: true },
);
suite(
  'a qcow2 overlay with large clusters and refcounts of one bit',
  { clusterSize: 2 ** 21, refcountBits: 1 },
  true,
);

describe('an image that is closed', () => {
  test('refuses all further calls', async () => {
    const layer = await qcow2Format.open(await newImage({}));
    const below = nothingBelow(SIZE);
    await layer[Symbol.asyncDispose]();
    const byte = new Uint8Array(1);
    for (const call of [
      () => layer.map(0, 1),
      () => layer.write(byte, 0, below),
      () => layer.zero(0, 1, below),
      () => layer.discard(0, 1),
      () => layer.flush(),
      () => layer.empty(),
      () => layer.resize(SIZE + 512, below),
      () => layer.readEncoded(byte, 0),
    ])
      await assert.rejects(call, { code: 'closed' });
    assert.throws(() => layer.tryMap(0, 1), { code: 'closed' });
  });

  test('has waited for the writes that were under way', async () => {
    const file = await newImage({});
    const layer = await qcow2Format.open(file);
    const writing = layer.write(new Uint8Array(1000).fill(7), 100, nothingBelow(SIZE));
    await layer[Symbol.asyncDispose]();
    await writing;
    const again = await qcow2Format.openSource(file);
    assert.deepEqual(await readGuest(again, 100, 1000), new Uint8Array(1000).fill(7));
  });
});

describe('opening', () => {
  test('for reading writes nothing, whatever the image asks for', async () => {
    const file = await newImage({});
    const { bytes } = { bytes: file.bytes() };
    bytes[72 + 7] = 1; // dirty
    bytes[88 + 7] = 4; // an autoclear bit that nobody knows
    const patched = new MemoryDevice();
    await patched.write(bytes, 0);
    const source = await qcow2Format.openSource(patched);
    await readGuest(source, 0, SIZE);
    await source[Symbol.asyncDispose]();
    assert.deepEqual(patched.bytes(), bytes);
  });

  test('for writing is refused where the image is corrupt', async () => {
    const file = await newImage({});
    await file.write(new Uint8Array([2]), 72 + 7);
    await assert.rejects(qcow2Format.open(file), { code: 'corrupt' });
    await qcow2Format.openSource(file);
  });

  test('for writing repairs what was not closed properly, for reading leaves it as it is', async () => {
    const file = await newImage({});
    const clean = file.bytes();
    await file.write(new Uint8Array([1]), 72 + 7);
    const dirty = file.bytes();
    await qcow2Format.openSource(file);
    assert.deepEqual(file.bytes(), dirty);
    await using _ = await qcow2Format.open(file);
    assert.deepEqual(file.bytes(), clean);
  });

  test('and closing without a change writes nothing', async () => {
    const file = await newImage({});
    await file.write(new Uint8Array([4]), 88 + 7);
    const before = file.bytes();
    const layer = await qcow2Format.open(file);
    await readGuest(layer, 0, SIZE);
    await layer[Symbol.asyncDispose]();
    assert.deepEqual(file.bytes(), before);
  });
});

test('the format is known by its first bytes', async () => {
  const head = (await newImage({})).bytes().subarray(0, 512);
  assert.equal(qcow2Format.matches(head), true);
  assert.equal(qcow2Format.matches(new Uint8Array(512)), false);
});
