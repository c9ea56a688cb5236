import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import {
  encodeCompressedHigh,
  encodeHigh,
  encodeLow,
  encodeZeroLow,
  setEntry,
  tableOf,
} from '../src/entries.ts';
import { type Geometry, geometryOf, type HostOffset, hostOffset } from '../src/geometry.ts';
import { corruptEntry, mapIn } from '../src/mapping.ts';
import type { ClusterTable } from '../src/tables.ts';

const CLUSTER = 4096;
const geometry: Geometry = geometryOf({ version: 3, clusterBits: 12, refcountOrder: 4, incompatible: 0n });
const file = new MemoryDevice();
const context = { geometry, file, sparse: false };

type Words = readonly [number, number];
const data = (cluster: number, exclusive = true): Words => [
  encodeHigh(cluster * CLUSTER, exclusive),
  encodeLow(cluster * CLUSTER),
];
const zeroAt = (cluster: number): Words => [
  encodeHigh(cluster * CLUSTER, true),
  encodeZeroLow(cluster * CLUSTER),
];
const ZERO: Words = [0, 1];
const NONE: Words = [0, 0];
const COMPRESSED: Words = [encodeCompressedHigh(geometry, 70_000, 1000), 70_000];

function tableWith(entries: readonly Words[], at: HostOffset = hostOffset(0x30000)): ClusterTable {
  const bytes = new Uint8Array(CLUSTER);
  const view = tableOf(bytes);
  entries.forEach(([high, low], index) => {
    setEntry(view, index, high, low);
  });
  return { index: 0, at, bytes, view, mayChange: true, dirtyFrom: 0, dirtyTo: 0 };
}

const map = (entries: readonly Words[], offset: number, limit = 2 ** 40) =>
  mapIn(context, tableWith(entries), offset, limit);

describe('one answer covers a run', () => {
  test('of data that lies in a row in the file, shared or not', () => {
    const answer = map([data(5), data(6, false), data(7), data(9)], 100);
    const length = 3 * CLUSTER - 100;
    assert.deepEqual(answer, { kind: 'raw', device: file, at: 5 * CLUSTER + 100, length, sparse: false });
  });

  test('of zeros with a place in a row, and says where', () => {
    const answer = map([zeroAt(5), zeroAt(6), data(7)], CLUSTER + 10);
    assert.deepEqual(answer, { kind: 'zero', at: 6 * CLUSTER + 10, length: CLUSTER - 10 });
  });

  test('of zeros without a place', () => {
    assert.deepEqual(map([ZERO, ZERO, zeroAt(9)], 0), { kind: 'zero', at: undefined, length: 2 * CLUSTER });
  });

  test('of compressed clusters, wherever their bytes are', () => {
    assert.deepEqual(map([COMPRESSED, COMPRESSED, NONE], 1), { kind: 'encoded', length: 2 * CLUSTER - 1 });
  });

  test('of nothing, to the end of the table', () => {
    const length = (geometry.l2Entries - 2) * CLUSTER;
    assert.deepEqual(map([data(5), ZERO], 2 * CLUSTER), { kind: 'below', length });
  });

  test('to the limit and no further', () => {
    assert.equal(map([data(5), data(6)], 10, 20)?.length, 20);
    assert.equal(map([data(5), data(6)], 10, CLUSTER)?.length, CLUSTER);
    assert.equal(map([], 10, 1)?.length, 1);
  });

  test('that ends before a corrupt entry', () => {
    assert.equal(map([data(5), [0, 6 * CLUSTER + 512]], 0)?.length, CLUSTER);
  });
});

test('offsets past 4 GiB, of the guest and of the host, keep all of their bits', () => {
  const at = 2 ** 52 + 3 * CLUSTER;
  const entries = [[encodeHigh(at, true), encodeLow(at)] as const];
  const answer = map(entries, 2 ** 50 + 9);
  assert.deepEqual(answer, { kind: 'raw', device: file, at: at + 9, length: CLUSTER - 9, sparse: false });
});

test('a corrupt entry is told in the words of QEMU, with its place in the table', () => {
  const table = tableWith([NONE, [0, 6 * CLUSTER + 512]]);
  assert.equal(mapIn(context, table, CLUSTER, 1), undefined);
  const error = corruptEntry(geometry, table, 1);
  assert.equal(
    error.message,
    'Cluster allocation offset 0x6200 unaligned (L2 offset: 0x30000, L2 index: 0x1)',
  );
  assert.equal(error.context.offset, 0x30008);
});
