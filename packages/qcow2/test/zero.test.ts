import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { BELOW, bytesOf, faultsOf, filled, type NewImage, newImage } from './new-image.ts';

const K64 = 65_536;
const SIZE = 16 * K64;

const kindAt = async ({ image }: NewImage, cluster: number): Promise<string> => {
  const mapping = await image.reader.map(cluster * K64, 1);
  return mapping.kind === 'zero' && mapping.at !== undefined ? 'reserved' : mapping.kind;
};

/** Zeroes bytes 1000 to 7000 of cluster 3, and says what became of the cluster and whether data was written. */
async function zeroPart(made: NewImage, how = {}): Promise<string> {
  const { image, file, below } = made;
  file.changes.length = 0;
  await zero(image, 3 * K64 + 1000, 6000, below, how);
  const wrote = file.changes.length > 0 ? ', written' : '';
  assert.deepEqual(await bytesOf(image, 3 * K64 + 1000, 6000), new Uint8Array(6000));
  return (await kindAt(made, 3)) + wrote;
}

describe('whole clusters', () => {
  test('lose their place and read as zeros', async () => {
    for (const backed of [false, true]) {
      const made = await newImage({ size: SIZE }, { backed });
      await write(made.image, filled(2 * K64, 1), 2 * K64, made.below);
      await zero(made.image, K64, 4 * K64, made.below, {});
      for (const cluster of [1, 2, 3, 4]) assert.equal(await kindAt(made, cluster), 'zero');
      assert.deepEqual(await faultsOf(made), []);
    }
  });

  test('keep or get a place if the caller wants it', async () => {
    const made = await newImage({ size: SIZE }, { backed: true });
    const { image, file, below } = made;
    await write(image, filled(K64, 1), 2 * K64, below);
    const before = await image.reader.map(2 * K64, 1);
    await zero(image, 5 * K64, K64, below, {});
    await zero(image, 0, 8 * K64, below, { allocate: true });
    for (let cluster = 0; cluster < 8; cluster++) assert.equal(await kindAt(made, cluster), 'reserved');
    const after = await image.reader.map(2 * K64, 1);
    assert.ok(before.kind === 'raw' && after.kind === 'zero');
    assert.equal(after.at, before.at);
    assert.ok(file.changes.some(({ bytes, length }) => bytes === undefined && length >= 2 * K64));
    assert.deepEqual(await bytesOf(image, 0, 8 * K64), new Uint8Array(8 * K64));
    assert.deepEqual(await faultsOf(made), []);
  });

  test('at the cut end of the disk count as whole', async () => {
    const made = await newImage({ size: 3 * K64 + 512 }, { backed: true });
    made.file.changes.length = 0;
    await zero(made.image, 3 * K64, 512, made.below, { fast: true });
    assert.equal(await kindAt(made, 3), 'zero');
  });

  test('never need data to be written, so fast goes', async () => {
    const made = await newImage({ size: SIZE }, { backed: true });
    await write(made.image, filled(SIZE, 1), 0, made.below);
    made.file.changes.length = 0;
    await zero(made.image, 0, SIZE, made.below, { fast: true });
    assert.equal(made.file.changes.length, 0);
  });
});

describe('a part of a cluster', () => {
  test('of an image that stands alone takes the whole with it where nothing was', async () => {
    assert.equal(await zeroPart(await newImage({ size: SIZE })), 'zero');
  });

  test('takes the whole with it where the rest is zeros below', async () => {
    const made = await newImage({ size: SIZE }, { backed: true });
    const below = new MemoryDevice(2 * SIZE);
    // It has data exactly where the range is.
    below.tryExtentAt = (offset, limit) => {
      const [from, to] = [3 * K64 + 1000, 3 * K64 + 7000];
      const end = offset < from ? from : offset < to ? to : offset + limit;
      const kind = offset >= from && offset < to ? 'data' : 'zero';
      return { offset, length: Math.min(limit, end - offset), kind, depth: 1 };
    };
    assert.equal(await zeroPart({ ...made, below }), 'zero');
  });

  test('is written where the rest is not zeros', async () => {
    const made = await newImage({ size: SIZE }, { backed: true });
    assert.equal(await zeroPart(made), 'raw, written');
    const expected = filled(K64, BELOW);
    expected.fill(0, 1000, 7000);
    assert.deepEqual(await bytesOf(made.image, 3 * K64, K64), expected);
    assert.deepEqual(await faultsOf(made), []);
  });

  test('is written into data, and the rest stays', async () => {
    const made = await newImage({ size: SIZE });
    await write(made.image, filled(SIZE, 5), 0, made.below);
    assert.equal(await zeroPart(made), 'raw, written');
    assert.deepEqual(await bytesOf(made.image, 3 * K64, 1000), filled(1000, 5));
  });

  test('of zeros changes nothing', async () => {
    const made = await newImage({ size: SIZE }, { backed: true });
    await zero(made.image, 0, SIZE, made.below, {});
    assert.equal(await zeroPart(made), 'zero');
  });

  test('that would have to be written is refused if it must be fast, and nothing changes', async () => {
    const made = await newImage({ size: SIZE }, { backed: true });
    const { image, below } = made;
    await write(image, filled(K64, 5), 4 * K64, below);
    const before = await bytesOf(image);
    // Whole clusters that could be zeroed lie between the two edges.
    await assert.rejects(zero(image, 3 * K64 + 5, 4 * K64, below, { fast: true }), { code: 'not-supported' });
    assert.deepEqual(await bytesOf(image), before);
  });

  test('at both ends of a range goes with what is between', async () => {
    const made = await newImage({ size: SIZE }, { backed: true });
    await zero(made.image, K64 + 100, 3 * K64, made.below, {});
    const expected = filled(SIZE, BELOW);
    expected.fill(0, K64 + 100, 4 * K64 + 100);
    assert.deepEqual(await bytesOf(made.image), expected);
    assert.deepEqual(
      [await kindAt(made, 1), await kindAt(made, 2), await kindAt(made, 4)],
      ['raw', 'zero', 'raw'],
    );
    assert.deepEqual(await faultsOf(made), []);
  });
});

describe('version 2', () => {
  test('lets clusters go where nothing is below', async () => {
    const made = await newImage({ version: 2, size: SIZE });
    await write(made.image, filled(4 * K64, 1), 0, made.below);
    await zero(made.image, 0, 4 * K64, made.below, { fast: true });
    assert.equal(await kindAt(made, 0), 'below');
    assert.deepEqual(await faultsOf(made), []);
  });

  test('writes zeros where something is below, and refuses to be fast', async () => {
    const made = await newImage({ version: 2, size: SIZE }, { backed: true });
    await assert.rejects(zero(made.image, 0, K64, made.below, { fast: true }), { code: 'not-supported' });
    await zero(made.image, 100, 3 * K64, made.below, {});
    const expected = filled(SIZE, BELOW);
    expected.fill(0, 100, 3 * K64 + 100);
    assert.deepEqual(await bytesOf(made.image), expected);
    assert.equal(await kindAt(made, 1), 'raw');
    assert.deepEqual(await faultsOf(made), []);
  });

  test('writes zeros where the space is to be kept', async () => {
    const made = await newImage({ version: 2, size: SIZE });
    await zero(made.image, 0, 2 * K64, made.below, { allocate: true });
    assert.equal(await kindAt(made, 1), 'raw');
    assert.deepEqual(await bytesOf(made.image), new Uint8Array(SIZE));
  });
});
