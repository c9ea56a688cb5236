import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { encodeHigh, encodeLow, setEntry, tableOf } from '../src/entries.ts';
import { type Geometry, geometryOf, hostOffset } from '../src/geometry.ts';
import { l2Tables } from '../src/mapping.ts';
import { ClusterTables, NO_TABLE } from '../src/tables.ts';
import { WordTable } from '../src/word-table.ts';

const CLUSTER = 4096;
const geometry: Geometry = geometryOf({ version: 3, clusterBits: 12, refcountOrder: 4, incompatible: 0n });
const PARENT = hostOffset(CLUSTER);

/** A file whose L1 table has `count` entries that lead to tables full of their number, and one entry of 0. */
async function setUp(count: number, cacheBytes = 2 ** 20) {
  const file = new MemoryDevice();
  const l1 = tableOf(new Uint8Array((count + 1) * 8));
  for (let index = 0; index < count; index++) {
    const at = (10 + index) * CLUSTER;
    setEntry(l1, index, encodeHigh(at, true), encodeLow(at));
    await file.write(new Uint8Array(CLUSTER).fill(index + 1), at);
  }
  await file.write(new Uint8Array(l1.buffer), PARENT);
  const parent = new WordTable(file, PARENT, count + 1);
  return { file, parent, tables: new ClusterTables(file, parent, geometry, l2Tables(geometry, cacheBytes)) };
}

describe('a table', () => {
  test('is found once it was loaded', async () => {
    const { tables } = await setUp(3);
    assert.equal(tables.peek(1), undefined);
    await tables.load(1);
    assert.equal(tables.peek(1)?.bytes[0], 2);
    assert.equal(tables.peek(1)?.at, 11 * CLUSTER);
    assert.equal(tables.isAt(11 * CLUSTER), true);
  });

  test('that does not exist is told from one that is not loaded', async () => {
    const { tables } = await setUp(3);
    assert.equal(tables.peek(3), undefined);
    assert.equal(await tables.get(3), NO_TABLE);
    assert.equal(tables.peek(3), NO_TABLE);
    assert.equal(tables.peek(4), NO_TABLE, 'past the last entry');
  });

  test('at an unaligned place is corrupt, in the words of QEMU', async () => {
    const { file, tables } = await setUp(3);
    await file.write(Uint8Array.of(0x80, 0, 0, 0, 0, 0, 0xb2, 0), PARENT + 8);
    assert.equal(tables.peek(1), undefined);
    await assert.rejects(tables.get(1), {
      code: 'corrupt',
      message: 'L2 table offset 0xb200 unaligned (L1 index: 0x1)',
    });
  });

  test('is read once for all who wait for it', async () => {
    const { file, parent, tables } = await setUp(3);
    await parent.load(0);
    let reads = 0;
    const { tryRead } = file;
    file.tryRead = (into, offset) => {
      reads++;
      return tryRead.call(file, into, offset);
    };
    await Promise.all([tables.load(0), tables.load(0), tables.get(0)]);
    assert.equal(reads, 1);
  });
});

describe('memory', () => {
  test('holds no more clean tables than it was told, and eight at least', async () => {
    const { tables } = await setUp(40, 1);
    for (let index = 0; index < 40; index++) await tables.load(index);
    const held = Array.from({ length: 40 }, (_, index) => tables.peek(index)).filter((table) => table);
    assert.equal(held.length, 8);
  });

  test('holds every changed table until its change was written', async () => {
    const { tables } = await setUp(40, 1);
    for (let index = 0; index < 40; index++) {
      const table = await tables.get(index);
      table.bytes[0] = 0xff;
      tables.changed(table, 0, 8);
    }
    for (let index = 0; index < 40; index++) assert.equal(tables.peek(index)?.bytes[0], 0xff);
    assert.equal(tables.dirtyBytes, 40 * CLUSTER);
    const taken = tables.take();
    assert.equal(tables.dirtyBytes, 40 * CLUSTER, 'the file does not have them yet');
    tables.settle(taken);
    assert.equal(tables.dirtyBytes, 0);
  });
});

describe('changes', () => {
  test('are taken as the whole sectors between the first and the last of them', async () => {
    const { tables } = await setUp(2);
    const table = await tables.get(0);
    tables.changed(table, 520, 528);
    tables.changed(table, 1600, 1608);
    const { writes } = tables.take();
    assert.deepEqual(
      writes.map(({ at, bytes }) => [at, bytes.length]),
      [[10 * CLUSTER + 512, 1536]],
    );
    assert.deepEqual(tables.take().writes, []);
  });

  test('made after the taking do not show in what was taken, and are taken next', async () => {
    const { tables } = await setUp(2);
    const table = await tables.get(0);
    table.bytes[0] = 50;
    tables.changed(table, 0, 8);
    const taken = tables.take();
    table.bytes[0] = 60;
    tables.changed(table, 0, 8);
    assert.equal(taken.writes[0]?.bytes[0], 50);
    tables.settle(taken);
    assert.equal(tables.take().writes[0]?.bytes[0], 60);
  });

  test('that could not be written are taken again', async () => {
    const { tables } = await setUp(2);
    const table = await tables.get(0);
    table.bytes[0] = 50;
    tables.changed(table, 0, 8);
    tables.restore(tables.take());
    assert.equal(tables.take().writes[0]?.bytes[0], 50);
  });
});

describe('a new table', () => {
  test('is written whole, and its parent leads to it', async () => {
    const { parent, tables } = await setUp(2);
    await parent.load(0);
    const at = hostOffset(77 * CLUSTER);
    tables.create(2, at);
    assert.equal(tables.peek(2)?.at, at);
    assert.deepEqual([parent.high(2), parent.low(2)], [0x8000_0000, at]);
    assert.equal(tables.take().writes[0]?.bytes.length, CLUSTER);
  });

  test('may start as a copy, and takes the place of the old one', async () => {
    const { tables } = await setUp(2);
    const old = await tables.get(1);
    tables.create(1, hostOffset(77 * CLUSTER), old.bytes);
    assert.equal(tables.peek(1)?.bytes[100], 2);
    assert.notEqual(tables.peek(1), old);
    assert.equal(tables.isAt(11 * CLUSTER), false);
    assert.equal(tables.isAt(77 * CLUSTER), true);
  });

  test('is not overwritten by a read of the old one that ends later', async () => {
    const { file, parent, tables } = await setUp(2);
    await parent.load(0);
    const { read, tryRead } = file;
    let finish: (() => void) | undefined;
    file.tryRead = () => false;
    file.read = async (into, offset) => {
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      file.tryRead = tryRead;
      await read.call(file, into, offset);
    };
    const loading = tables.load(1);
    await new Promise<void>((resolve) => setImmediate(resolve));
    tables.create(1, hostOffset(77 * CLUSTER));
    finish?.();
    await loading;
    assert.equal(tables.peek(1)?.at, 77 * CLUSTER);
  });
});
