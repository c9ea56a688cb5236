import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Image } from '../src/image.ts';
import { forEachUse, mendFlags, readTree } from '../src/l1-tree.ts';
import { Renewal } from '../src/renewal.ts';
import { newImage, reopened } from './new-image.ts';

/** An L1 table, and where it leads: cluster 128, and the L2 table in cluster 129. Data starts at cluster 136. */
const L1_AT = 0x10000;
const L2_AT = 0x10200;

const words = (...digits: readonly string[]): Buffer => Buffer.from(digits.join(''), 'hex');

/** An image with tables written by hand; the file ends at 0x11800. */
async function withTables(
  l1: readonly string[],
  l2: readonly string[],
  { clusterSize = 512, l2At = L2_AT } = {},
): Promise<Image> {
  const { memory } = await newImage({ size: 2 ** 20, clusterSize });
  await memory.write(new Uint8Array(140 * 512 - memory.size), memory.size);
  await memory.write(words(...l1), L1_AT);
  await memory.write(words(...l2), l2At);
  return (await reopened(memory)).image;
}

const TO_TABLE = '8000000000010200';
const NOTHING = '0000000000000000';
/** Data, exclusive and not; zeros without a cluster; compressed data in the sectors of clusters 138 and 139. */
const L2 = ['8000000000011000', '0000000000011200', '0000000000000001', '6000000000011430'];

/** Counts by cluster; all that is not in it up to cluster 199 has one use. */
function renewalOf(image: Image, counts: Readonly<Record<number, number>>): Renewal {
  return new Renewal(image.geometry, {
    regions: 1,
    table: { first: 1, count: 1 },
    guard: () => undefined,
    isTaken: () => false,
    region: async () => ({
      uses: (index) => counts[index] ?? (index < 200 ? 1 : 0),
      block: undefined,
    }),
  });
}

test('a table that two entries lead to is one table with two uses, and each use is one of its clusters', async () => {
  const image = await withTables([TO_TABLE, NOTHING, TO_TABLE], L2);
  const tree = await readTree(image, L1_AT, 3, 5);
  assert.deepEqual([...tree.tables], [[L2_AT, 2]]);
  assert.equal(tree.entries, 5);
  assert.equal(tree.words.byteLength, 40);
  assert.equal(tree.words.getBigUint64(32), 0n);
  const uses: (readonly [number, number])[] = [];
  await forEachUse(image, tree, (cluster, times) => uses.push([cluster, times]));
  assert.deepEqual(
    uses,
    [129, 136, 137, 138, 139].map((cluster) => [cluster, 2]),
  );
});

test('extended entries are two words, and what their bitmaps say is no cluster', async () => {
  const { memory } = await newImage({ size: 2 ** 20, clusterSize: 16_384, extendedL2: true });
  await memory.write(new Uint8Array(20 * 16_384 - memory.size), memory.size);
  await memory.write(words('8000000000020000'), 0x1c000);
  await memory.write(words('8000000000044000', '00000000ffffffff', NOTHING, 'ffffffff00000000'), 0x20000);
  const { image } = await reopened(memory);
  const uses: number[] = [];
  await forEachUse(image, await readTree(image, 0x1c000, 1), (cluster) => uses.push(cluster));
  assert.deepEqual(uses, [8, 17]);
});

test('tables and data that no sound image has are corrupt, where they are', async () => {
  // Clusters of 1024 bytes; the file ends after cluster 69.
  for (const [l1, l2, message, offset] of [
    ['8000000000010200', NOTHING, 'L2 table offset 0x10200 unaligned (L1 index: 0x0)', L1_AT],
    ['8000000000011800', NOTHING, 'an L2 table lies behind the end of the file, at 0x11800', 0x11800],
    ['8000000000010400', '8000000000011200', 'Cluster allocation offset 0x11200 unaligned', 0x10400],
    [
      '8000000000010400',
      '8000000000012000',
      'a cluster lies behind the end of the file, at 0x12000',
      0x12000,
    ],
    [
      '8000000000010400',
      '5000000000011e30',
      'compressed data lies behind the end of the file, at 0x11c00',
      0x11c00,
    ],
  ] as const) {
    const image = await withTables([l1], [l2], { clusterSize: 1024, l2At: 0x10400 });
    const walk = async (): Promise<void> =>
      forEachUse(image, await readTree(image, L1_AT, 1), () => undefined);
    await assert.rejects(walk(), (error: { code: string; message: string; context: { offset: number } }) => {
      assert.deepEqual([error.code, error.message, error.context.offset], ['corrupt', message, offset]);
      return true;
    });
  }
});

test('a flag that changes moves its table, and the entries lead to the new place', async () => {
  const image = await withTables([TO_TABLE], L2);
  const tree = await readTree(image, L1_AT, 1);
  const renewal = renewalOf(image, {});
  const moved: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  await mendFlags(image, tree, renewal, 0, async (table) => void moved.push(table));
  // Cluster 137 is used once now and was not said to be; the other entries stay as they are.
  const [table] = moved;
  assert.deepEqual([moved.length, table?.at], [1, 200 * 512]);
  const head = Buffer.from(table?.bytes ?? []).subarray(0, 32);
  assert.equal(
    head.toString('hex'),
    words('8000000000011000', '8000000000011200', ...L2.slice(2)).toString('hex'),
  );
  assert.equal(tree.words.getBigUint64(0), 0x8000_0000_0001_9000n);
  assert.deepEqual([await renewal.uses(129), await renewal.uses(200)], [0, 1]);
});

test('what a copy of the L1 table will use as well is exclusive no more', async () => {
  const image = await withTables([TO_TABLE, TO_TABLE], ['8000000000011000']);
  const tree = await readTree(image, L1_AT, 2);
  const renewal = renewalOf(image, { 129: 2, 136: 2 });
  await forEachUse(image, tree, (cluster, times) => renewal.add(cluster, times));
  const moved: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  await mendFlags(image, tree, renewal, 1, async (table) => void moved.push(table));
  assert.equal(Buffer.from(moved[0]?.bytes ?? []).readBigUInt64BE(0), 0x1_1000n);
  assert.deepEqual([tree.words.getBigUint64(0), tree.words.getBigUint64(8)], [0x1_9000n, 0x1_9000n]);
  // Two entries here and two in the copy.
  assert.deepEqual([await renewal.uses(129), await renewal.uses(200)], [0, 4]);
});

test('flags that are right leave every table in its place', async () => {
  const image = await withTables([TO_TABLE, NOTHING], ['8000000000011000', '0000000000011200']);
  const tree = await readTree(image, L1_AT, 2);
  const renewal = renewalOf(image, { 137: 3 });
  await mendFlags(image, tree, renewal, 0, () => assert.fail('no table moves'));
  assert.equal(tree.words.getBigUint64(0), 0x8000_0000_0001_0200n);
  assert.equal(tree.words.getBigUint64(8), 0n);
});
