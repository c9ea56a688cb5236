import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { hostOffset } from '../src/geometry.ts';
import { WordTable } from '../src/word-table.ts';

/** A file in which the word `index` of the table at 64 KiB has the halves `index` and `index + 1`. */
async function fileOf(entries: number): Promise<MemoryDevice> {
  const bytes = new DataView(new ArrayBuffer(entries * 8));
  for (let index = 0; index < entries; index++) {
    bytes.setUint32(index * 8, index);
    bytes.setUint32(index * 8 + 4, index + 1);
  }
  const file = new MemoryDevice();
  await file.write(new Uint8Array(bytes.buffer), 65_536);
  return file;
}

const AT = hostOffset(65_536);

describe('reading', () => {
  test('happens on demand, and nothing is known before', async () => {
    const table = new WordTable(await fileOf(20_000), AT, 20_000);
    assert.equal(table.isLoaded(9000), false);
    assert.throws(() => table.high(9000), RangeError);
    await table.load(9000);
    assert.deepEqual([table.high(9000), table.low(9000)], [9000, 9001]);
    assert.equal(table.isLoaded(0), false);
    await assert.rejects(table.load(20_000), RangeError);
  });

  test('never goes past the last entry', async () => {
    const table = new WordTable(await fileOf(20_000), AT, 10);
    await table.load(0);
    assert.deepEqual([table.high(9), table.low(9)], [9, 10]);
    assert.throws(() => table.high(10), RangeError);
  });

  test('of a table past the end of the file is zeros and costs nothing', async () => {
    const file = await fileOf(1);
    const entries = 4 * 2 ** 20;
    const table = new WordTable(file, hostOffset(2 ** 40), entries);
    const before = process.memoryUsage().arrayBuffers;
    await table.loadAll();
    assert.ok(process.memoryUsage().arrayBuffers - before < 2 ** 20);
    assert.equal(table.low(entries - 1), 0);
    assert.equal(table.zeroRun(5), 8192 - 5);
  });

  test('reads a piece once for all who wait for it', async () => {
    const file = await fileOf(100);
    let reads = 0;
    const { read } = file;
    file.tryRead = () => false;
    file.read = (into, offset) => {
      reads++;
      return read.call(file, into, offset);
    };
    const table = new WordTable(file, AT, 100);
    // The replaced tryRead is what read of a memory device calls, so it answers with zeros here.
    await Promise.all([table.load(1), table.load(2), table.load(3)]);
    assert.equal(reads, 1);
  });
});

describe('changes', () => {
  test('are taken once, by sectors of 512 bytes', async () => {
    const table = new WordTable(await fileOf(1000), AT, 1000);
    await table.loadAll();
    assert.equal(table.isDirty, false);
    table.set(1, 7, 8);
    table.set(64, 7, 8);
    table.set(999, 1, 2);
    const { writes, moved } = table.take();
    assert.equal(moved, false);
    assert.deepEqual(
      writes.map(({ at, bytes }) => [at - AT, bytes.length]),
      [
        [0, 1024],
        [960 * 8, 40 * 8],
      ],
    );
    assert.equal(table.isDirty, false);
    assert.deepEqual(table.take().writes, []);
  });

  test('made after the taking do not show in what was taken', async () => {
    const table = new WordTable(await fileOf(100), AT, 100);
    await table.loadAll();
    table.set(0, 1, 1);
    const [write] = table.take().writes;
    table.set(0, 2, 2);
    assert.equal(write?.bytes[3], 1);
    assert.equal(table.isDirty, true);
  });

  test('that could not be written are taken again, as they are by then', async () => {
    const table = new WordTable(await fileOf(100), AT, 100);
    await table.loadAll();
    table.set(0, 1, 1);
    const taken = table.take();
    table.set(1, 5, 5);
    table.restore(taken);
    const [write] = table.take().writes;
    assert.deepEqual([write?.bytes[3], write?.bytes[11]], [1, 5]);
  });

  test('of shared zeros stay with their table', async () => {
    const file = await fileOf(1);
    const [one, two] = [0, 1].map(() => new WordTable(file, hostOffset(2 ** 30), 10));
    await one?.load(0);
    await two?.load(0);
    one?.set(3, 1, 1);
    assert.equal(two?.high(3), 0);
  });
});

describe('a table that moves', () => {
  test('is written whole at its new place, with zeros behind', async () => {
    const table = new WordTable(await fileOf(100), AT, 100);
    await table.loadAll();
    table.set(50, 9, 9);
    table.move(hostOffset(2 ** 20), 9000);
    const { writes, moved } = table.take();
    assert.equal(moved, true);
    const all = Buffer.concat(writes.map(({ bytes }) => bytes));
    assert.equal(all.length, 9000 * 8);
    assert.equal(writes[0]?.at, 2 ** 20);
    assert.equal(writes[1]?.at, 2 ** 20 + 65_536);
    assert.deepEqual(
      [all.readUInt32BE(99 * 8), all.readUInt32BE(50 * 8), all.readUInt32BE(100 * 8)],
      [99, 9, 0],
    );
  });

  test('moves again if that could not be written', async () => {
    const table = new WordTable(await fileOf(100), AT, 100);
    await table.loadAll();
    table.move(hostOffset(2 ** 20), 200);
    table.restore(table.take());
    assert.equal(table.take().moved, true);
  });

  test('by being replaced holds zeros, and reads that were under way do not bring the old back', async () => {
    const file = await fileOf(100);
    const table = new WordTable(file, AT, 100);
    const loading = table.load(0);
    table.replace(hostOffset(2 ** 20), 100);
    await loading;
    assert.equal(table.low(5), 0);
    assert.equal(table.zeroRun(0), 100);
  });

  test('in the file is read from its new place', async () => {
    const file = await fileOf(100);
    const table = new WordTable(file, AT, 100);
    await table.load(0);
    table.set(0, 1, 1);
    table.adopt(hostOffset(65_536 + 80), 90);
    assert.equal(table.isDirty, false);
    await table.load(0);
    assert.equal(table.high(0), 10);
  });
});
