import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { createQcow2 } from '../src/create.ts';
import { type Header, parseHeader, readHeader } from '../src/header.ts';
import { snapshotsPatch } from '../src/header-encode.ts';
import { qcow2Format } from '../src/layer.ts';
import { listSnapshots, readSnapshotTable } from '../src/snapshots.ts';
import { readGuest } from './guest.ts';
import { openHost } from './host.ts';

/** An entry of "Snapshots", field by field as the specification lays it out. */
function entry(id: string, name: string, extra: Buffer, vmState = 0): Buffer {
  const fixed = Buffer.alloc(40);
  fixed.writeBigUInt64BE(0x30000n, 0);
  fixed.writeUInt32BE(5, 8);
  fixed.writeUInt16BE(Buffer.byteLength(id), 12);
  fixed.writeUInt16BE(Buffer.byteLength(name), 14);
  fixed.writeUInt32BE(1_700_000_000, 16);
  fixed.writeUInt32BE(123, 20);
  fixed.writeBigUInt64BE(3_000_000_007n, 24);
  fixed.writeUInt32BE(vmState, 32);
  fixed.writeUInt32BE(extra.length, 36);
  const bytes = Buffer.concat([fixed, extra, Buffer.from(id), Buffer.from(name)]);
  return Buffer.concat([bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8)]);
}

const words = (...values: readonly bigint[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, index) => {
    bytes.writeBigUInt64BE(value, index * 8);
  });
  return bytes;
};

async function imageWith(...entries: readonly Buffer[]): Promise<[file: MemoryDevice, header: Header]> {
  const file = new MemoryDevice();
  await createQcow2(file, { size: 2 ** 20 });
  const at = 2 ** 20;
  await file.write(Buffer.concat(entries), at);
  const { bytes, offset } = snapshotsPatch(entries.length, at);
  await file.write(bytes, offset);
  const head = Buffer.alloc(65_536);
  await file.read(head, 0);
  return [file, parseHeader(head)];
}

test('entries with all, some, none and more than the known extra data are listed', async () => {
  const [file, header] = await imageWith(
    entry('1', 'all', words(7n, 4096n, 99n)),
    entry('2', 'no icount', words(7n, 4096n, 2n ** 64n - 1n)),
    entry('3', 'old', Buffer.alloc(0), 42),
    entry('4', 'half', words(8n), 42),
    entry('5', 'much', Buffer.concat([words(7n, 4096n, 99n), Buffer.alloc(1000, 1)])),
  );
  const snapshots = await listSnapshots(file, header);
  const told = snapshots.map(({ id, name, vmStateSize, diskSize, icount }) => [
    id,
    name,
    vmStateSize,
    diskSize,
    icount,
  ]);
  assert.deepEqual(told, [
    ['1', 'all', 7, 4096, 99],
    ['2', 'no icount', 7, 4096, undefined],
    ['3', 'old', 42, 2 ** 20, undefined],
    ['4', 'half', 8, 2 ** 20, undefined],
    ['5', 'much', 7, 4096, 99],
  ]);
  const first = snapshots[0];
  assert.deepEqual([first?.clockSeconds, first?.clockNanoseconds], [3, 7]);
  assert.deepEqual([first?.l1At, first?.l1Entries], [0x30000, 5]);
});

test('extra data beyond 1024 bytes is beyond the limit, in the words of QEMU', async () => {
  const [file, header] = await imageWith(
    entry('1', 'fine', Buffer.alloc(1024)),
    entry('2', 'too much', Buffer.alloc(1032)),
  );
  const message = 'Too much extra metadata in snapshot table entry 1';
  await assert.rejects(listSnapshots(file, header), { code: 'limit', message });
});

test('a size past 2^53 is beyond the limit', async () => {
  const [file, header] = await imageWith(entry('1', 'huge', words(2n ** 53n, 4096n)));
  await assert.rejects(listSnapshots(file, header), { code: 'limit' });
});

test('a table of more than 64 MiB is beyond the limit', async () => {
  const [file] = await imageWith();
  const long = entry('1', 'x'.repeat(65_000), Buffer.alloc(1024));
  const count = Math.ceil((64 * 2 ** 20) / long.length) + 10;
  for (let i = 0; i < count; i++) await file.write(long, 2 ** 20 + i * long.length);
  const { problem, entries } = await readSnapshotTable(file, 2 ** 20, count);
  assert.equal(problem?.message, 'Snapshot table is too big');
  assert.match(problem?.advice ?? '', new RegExp(`all ${count - entries.length} overhanging`));
});

test('entries behind the end of the file are empty, and 65,536 of them are listed', async () => {
  const [file, header] = await imageWith();
  const snapshots = await listSnapshots(file, { ...header, snapshotCount: 65_536 });
  assert.equal(snapshots.length, 65_536);
  assert.equal(snapshots[65_535]?.name, '');
});

test(
  'a snapshot is read as it was, without the state of a machine behind its disk',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, '1M', { options: { cluster_size: 512 } });
    await qemuIo(path, ['write -P 1 100k 200k']);
    await qemuImg.ok('snapshot', '-c', 'one', path);
    await qemuIo(path, ['write -P 2 0 1M']);
    // One more entry of its L1 table, behind the disk: the disk of today is longer.
    await qemuImg.ok('resize', '-q', path, '2M');
    await using file = await openHost(path);
    const { snapshotsAt } = await readHeader(file);
    const entry = Buffer.alloc(64);
    await file.read(entry, snapshotsAt);
    const l1At = Number(entry.readBigUInt64BE(0));
    const l1 = Buffer.alloc(33 * 8);
    await file.read(l1, l1At);
    l1.copy(l1, 32 * 8, 4 * 8, 5 * 8);
    await file.write(l1, l1At);
    entry.writeUInt32BE(33, 8);
    await file.write(entry, snapshotsAt);

    const source = await qcow2Format.openSource(file, { snapshot: { idOrName: 'one' } });
    assert.equal(source.size, 2 ** 21);
    const seen = Buffer.from(await readGuest(source, 0, 2 ** 21));
    const was = Buffer.alloc(2 ** 21).fill(1, 100 * 1024, 300 * 1024);
    assert.ok(seen.equals(was));
  },
);

test('a snapshot that is not there, or whose L1 table cannot be, is refused', async () => {
  const sound = entry('1', 'one', words(0n, 2n ** 20n));
  const unaligned = entry('2', 'two', words(0n, 2n ** 20n));
  unaligned.writeBigUInt64BE(0x30200n, 0);
  const large = entry('3', 'three', words(0n, 2n ** 20n));
  large.writeUInt32BE(2 ** 22 + 1, 8);
  const [file] = await imageWith(sound, unaligned, large);
  for (const [idOrName, code, message] of [
    ['nope', 'not-found', "Can't find snapshot"],
    ['two', 'corrupt', 'Snapshot L1 table offset invalid'],
    ['3', 'limit', 'Snapshot L1 table too large'],
  ] as const) {
    await assert.rejects(qcow2Format.openSource(file, { snapshot: { idOrName } }), { code, message });
  }
});
