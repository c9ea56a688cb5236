import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MemoryDevice } from '@strata/block';
import { type Header, readHeader } from '../src/header.ts';
import { encodeEntry, nextId, readEncodedTable, repairedSlices } from '../src/snapshot-table.ts';
import { readSnapshotTable, type SnapshotEntry } from '../src/snapshots.ts';
import { newImage } from './new-image.ts';

const AT = 0x20000;

/** The fields of an entry before its extra data, as the specification lists them. */
const fixed = (extraSize: number): string =>
  [
    '0000000000050000', // offset of the L1 table
    '00000003', // entries of it
    '0001', // length of the id
    '0003', // length of the name
    '6553f100', // seconds
    '075bcd15', // nanoseconds
    '00000002540be400', // clock of the guest
    '00000000', // size of the machine's state
    extraSize.toString(16).padStart(8, '0'),
  ].join('');
const ID_AND_NAME = '376f6e65';

/** A file with a table of these entries at `AT`, and its header. */
async function withEntries(
  version: 2 | 3,
  ...entries: readonly string[]
): Promise<{ readonly memory: MemoryDevice; readonly header: Header }> {
  const { memory } = await newImage({ size: 2 ** 20, version });
  await memory.write(Buffer.from(entries.join(''), 'hex'), AT);
  const header = await readHeader(memory);
  return {
    memory,
    header: { ...header, snapshotsAt: AT as Header['snapshotsAt'], snapshotCount: entries.length },
  };
}

const hexOf = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

test('a new entry has the fields of the specification, each in its place', () => {
  const entry = encodeEntry({
    id: '7',
    name: 'one',
    dateSeconds: 1_700_000_000,
    dateNanoseconds: 123_456_789,
    diskSize: 2 ** 20,
    l1At: 0x50000,
    l1Entries: 3,
  });
  const clockless = fixed(24).replace('00000002540be400', '0000000000000000');
  const extra = '000000000000000000000000001000000000000000000000';
  assert.equal(hexOf(entry), `${clockless}${extra}${ID_AND_NAME}00000000`);
});

test('a name has at most 65,535 bytes', () => {
  const rest = { id: '1', dateSeconds: 0, dateNanoseconds: 0, diskSize: 0, l1At: 0, l1Entries: 0 };
  assert.equal(encodeEntry({ ...rest, name: 'n'.repeat(65_535) }).length, 40 + 24 + 65_536);
  assert.throws(() => encodeEntry({ ...rest, name: 'n'.repeat(65_536) }), { code: 'invalid' });
});

test('the next id is one more than the largest number that an id begins with', () => {
  const idsOf = (...ids: readonly string[]): SnapshotEntry[] => ids.map((id) => ({ id }) as SnapshotEntry);
  assert.equal(nextId([]), '1');
  assert.equal(nextId(idsOf('3', '10', '9')), '11');
  assert.equal(nextId(idsOf('five', '')), '1');
  assert.equal(nextId(idsOf('12monkeys', ' 13')), '14');
  assert.equal(nextId(idsOf('9007199254740993')), '9007199254740994');
});

test('entries are kept byte for byte, with extra data that nobody knows', async () => {
  const extra = `${'00'.repeat(8)}0000000000100000${'ff'.repeat(8)}${'ab'.repeat(8)}`;
  const entries = [
    `${fixed(32)}${extra}${ID_AND_NAME}00000000`,
    `${fixed(16)}${'00'.repeat(16)}${ID_AND_NAME}`,
  ];
  const { memory, header } = await withEntries(3, ...entries);
  const table = await readEncodedTable(memory, header);
  assert.deepEqual(table.slices.map(hexOf), [entries[0], `${entries[1]}00000000`]);
  // The last entry is not filled up where it lies.
  assert.equal(table.length, 80 + 60);
  assert.deepEqual(
    table.entries.map(({ name, diskSize }) => [name, diskSize]),
    [
      ['one', 2n ** 20n],
      ['one', 0n],
    ],
  );
});

test('version 3 gets what it demands of an entry: the size of the state, the size of the disk, no count', async () => {
  const short = `${fixed(8)}${'00'.repeat(7)}09${ID_AND_NAME}00000000`;
  const { memory, header } = await withEntries(3, short);
  const { slices } = await readEncodedTable(memory, header);
  const extra = `0000000000000009${'0000000000100000'}${'ff'.repeat(8)}`;
  assert.deepEqual(slices.map(hexOf), [`${fixed(24)}${extra}${ID_AND_NAME}00000000`]);
  const old = await withEntries(2, short);
  assert.deepEqual((await readEncodedTable(old.memory, old.header)).slices.map(hexOf), [short]);
});

test('a repair keeps 1024 bytes of extra data, and the name behind all of it', async () => {
  const head = '00'.repeat(24);
  const { memory, header } = await withEntries(
    3,
    `${fixed(2000)}${head}${'cd'.repeat(1976)}${ID_AND_NAME}00000000`,
  );
  await assert.rejects(readEncodedTable(memory, header), { code: 'limit' });
  const { entries, shortened } = await readSnapshotTable(memory, AT, 1, { shorten: true });
  assert.deepEqual(shortened, ['Discarding too much extra metadata in snapshot table entry 0 (2000 > 1024)']);
  const [slice] = await repairedSlices(memory, AT, header, entries);
  assert.equal(hexOf(slice), `${fixed(1024)}${head}${'cd'.repeat(1000)}${ID_AND_NAME}00000000`);
});

test('extra data that is cut off does not make the table too long', async () => {
  const { memory } = await withEntries(3, fixed(0x2000_0000), '');
  const long = await readSnapshotTable(memory, AT, 2, { shorten: true });
  assert.deepEqual([long.entries.length, long.problem], [2, undefined]);
  assert.equal(long.shortened.length, 1);
  const whole = await readSnapshotTable(memory, AT, 1, { shorten: false });
  assert.match(whole.problem?.message ?? '', /^Too much extra metadata/);
  await memory.write(Buffer.from(fixed(0x8000_0000), 'hex'), AT);
  const over = await readSnapshotTable(memory, AT, 1, { shorten: true });
  assert.equal(over.problem?.message, 'Snapshot table is too big');
});
