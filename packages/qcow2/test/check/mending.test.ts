import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { Mending } from '../../src/check/mending.ts';
import { Incompatible } from '../../src/format.ts';
import { type GeometryFields, geometryOf } from '../../src/geometry.ts';
import { RecordingFile } from '../recording.ts';

const plain: GeometryFields = { version: 3, clusterBits: 9, refcountOrder: 4, incompatible: 0n };

/** A file full of 0xaa. */
async function fullFile(): Promise<{ readonly memory: MemoryDevice; readonly file: RecordingFile }> {
  const memory = new MemoryDevice();
  await memory.write(new Uint8Array(65_536).fill(0xaa), 0);
  return { memory, file: new RecordingFile(memory) };
}

for (const [title, fields, entry] of [
  ['version 3: the zero flag', plain, '0000000000000001'],
  ['version 2: nothing', { ...plain, version: 2 }, '0000000000000000'],
  [
    'extended entries: every subcluster reads as zeros',
    { ...plain, clusterBits: 14, incompatible: Incompatible.extendedL2 },
    '0000000000000000ffffffff00000000',
  ],
] as const) {
  test(`an entry becomes what reads as zeros in ${title}`, async () => {
    const { memory, file } = await fullFile();
    const mending = new Mending();
    assert.ok(mending.add(0x4000, 3));
    const geometry = geometryOf(fields);
    assert.equal(await mending.write(file, geometry, () => true), 0);
    const expected = Buffer.alloc(65_536, 0xaa);
    Buffer.from(entry, 'hex').copy(expected, 0x4000 + 3 * geometry.l2EntrySize);
    assert.ok(expected.equals(memory.bytes()));
    assert.equal(file.flushes.length, 1);
  });
}

test('it knows what it took in, once for each place', async () => {
  const mending = new Mending();
  assert.equal(mending.has(0x4000, 3), false);
  mending.add(0x4000, 3);
  mending.add(0x4000, 4);
  mending.add(0x8000, 3);
  assert.deepEqual(
    [
      [0x4000, 3],
      [0x4000, 4],
      [0x8000, 3],
      [0x8000, 4],
      [0x4008, 3],
    ].map(([at, index]) => mending.has(at as number, index as number)),
    [true, true, true, false, false],
  );
});

test('what must not be changed is counted and left, entry by entry', async () => {
  const { memory, file } = await fullFile();
  const mending = new Mending();
  for (const index of [62, 63]) mending.add(0x4010, index);
  // A table that starts 16 bytes into a cluster: its last two entries lie in two clusters.
  assert.equal(await mending.write(file, geometryOf(plain), (at) => at < 0x4200), 2);
  mending.add(0x4010, 61);
  assert.equal(await mending.write(file, geometryOf(plain), (at) => at < 0x4200), 2);
  const expected = Buffer.alloc(65_536, 0xaa);
  expected.writeBigUInt64BE(1n, 0x4010 + 61 * 8);
  assert.ok(expected.equals(memory.bytes()));
});

test('nothing is flushed where nothing was written', async () => {
  const { file } = await fullFile();
  const mending = new Mending();
  mending.add(0x4000, 0);
  assert.equal(await mending.write(file, geometryOf(plain), () => false), 1);
  assert.deepEqual([file.changes.length, file.flushes.length], [0, 0]);
});

test('no more than 2^20 entries are taken in', () => {
  const mending = new Mending();
  for (let i = 0; i < 2 ** 20; i++) assert.ok(mending.add(Math.floor(i / 64) * 512, i % 64));
  assert.equal(mending.add(0x4000_0000, 0), false);
});
