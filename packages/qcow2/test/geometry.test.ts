import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  clusterIndexOf,
  clustersFor,
  geometryOf,
  l1EntriesFor,
  refcountBlockIndexOf,
  refcountTableIndexOf,
} from '../src/geometry.ts';
import { seeded } from './random.ts';

test('the numbers of an image follow from its header as the specification says', () => {
  const extended = geometryOf({ version: 3, clusterBits: 16, refcountOrder: 0, incompatible: 16n });
  assert.equal(extended.l2Entries, 4096);
  assert.equal(extended.refcountBlockEntries, 65_536 * 8);
  const plain = geometryOf({ version: 2, clusterBits: 9, refcountOrder: 6, incompatible: 0n });
  assert.deepEqual([plain.l2Entries, plain.l2Reach, plain.refcountBlockEntries], [64, 32_768, 64]);
});

test('offsets up to 2^53 are split exactly as BigInt splits them', () => {
  const random = seeded(11);
  for (const clusterBits of [9, 12, 16, 21]) {
    const g = geometryOf({ version: 3, clusterBits, refcountOrder: 4, incompatible: 0n });
    const size = 1n << BigInt(clusterBits);
    const [l2, block] = [size / 8n, size / 2n];
    for (let i = 0; i < 2000; i++) {
      const offset = random.below(2 ** random.pick([10, 31, 32, 33, 45, 53]));
      const big = BigInt(offset);
      assert.equal(clusterIndexOf(g, offset), Number(big / size));
      assert.equal(clustersFor(g, offset), Number((big + size - 1n) / size));
      assert.equal(l1EntriesFor(g, offset), Number((big + size * l2 - 1n) / (size * l2)));
      assert.equal(refcountTableIndexOf(g, offset), Number(big / block));
      assert.equal(refcountBlockIndexOf(g, offset), Number(big % block));
    }
  }
});
