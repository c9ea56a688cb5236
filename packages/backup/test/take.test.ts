/** Backups hold the disk as it was, build upon each other only where that is right, and lose nothing when they fail. */
import assert from 'node:assert/strict';
import { readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { type BlockSource, DiskError, isDiskError } from '@strata/block';
import { assertSameBytes, qemuImg, requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { lockFolder, readPoints } from '../src/folder.ts';
import { openPoint, verifyFolder } from '../src/restore.ts';
import type { BackupSource } from '../src/source.ts';
import { type TakeOptions, type TakeReport, takeBackup } from '../src/take.ts';
import { checkpointNamed, layerFiles, TestDisk } from './layer-files.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

async function take(folder: string, source: BackupSource, options: TakeOptions = {}): Promise<TakeReport> {
  await using locked = await lockFolder(folder);
  return await takeBackup(source, locked, layerFiles, options);
}

async function restored(folder: string, wanted?: string): Promise<Uint8Array> {
  const { chain } = await openPoint(folder, wanted, layerFiles, 'whole');
  await using _ = chain;
  const bytes = new Uint8Array(chain.source.size);
  await chain.source.read(bytes, 0);
  return bytes;
}

/** A disk, and a folder with a full backup of it at checkpoint 1. */
async function started(temporary: TemporaryFolder, granularity?: number) {
  const folder = temporary.file('backups');
  const disk = new TestDisk(4 * MiB, granularity);
  await disk.write(0, 100 * KiB, 1);
  await disk.write(3 * MiB, 4 * KiB, 2);
  disk.checkpoint(checkpointNamed(1));
  const full = await take(folder, disk.source());
  return { folder, disk, full };
}

const rejectsWith = (code: string, words: RegExp) => (error: unknown) => {
  assert.ok(isDiskError(error), String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, words);
  return true;
};

test('a full backup and three on top of it give back each state, and read what changed only', async () => {
  await using temporary = await temporaryFolder();
  const { folder, disk, full } = await started(temporary);
  assert.deepEqual([full.kind, full.changed, full.overhead], ['full', 4 * MiB, 0]);
  const states = [disk.bytes()];
  for (let number = 2; number <= 4; number++) {
    await disk.write(number * 200 * KiB, 70 * KiB, number);
    await disk.zero((number - 2) * 64 * KiB, 64 * KiB);
    await disk.write(4 * MiB - 512, 512, number);
    disk.checkpoint(checkpointNamed(number));
    const expected = disk.bitmaps.get(checkpointNamed(number - 1))?.count;
    const report = await take(folder, disk.source());
    assert.deepEqual([report.kind, report.changed, report.overhead], ['incremental', expected, 0]);
    assert.ok(report.read < report.changed, 'zeros are not read');
    states.push(disk.bytes());
  }
  for (const [index, state] of states.entries()) {
    assertSameBytes(await restored(folder, String(index + 1)), state);
    assertSameBytes(await restored(folder, checkpointNamed(index + 1)), state);
  }
  assertSameBytes(await restored(folder), states.at(-1) as Uint8Array);
  assert.deepEqual(
    (await verifyFolder(folder, layerFiles)).map(({ problem }) => problem),
    [undefined, undefined, undefined, undefined],
  );
});

test('the layers are qcow2 that qemu-img reads and finds sound', requires('qemu-img'), async () => {
  await using temporary = await temporaryFolder();
  const { folder, disk } = await started(temporary, 4096);
  await disk.write(70 * KiB, 3 * KiB, 9);
  disk.checkpoint(checkpointNamed(2));
  await take(folder, disk.source());
  await writeFile(temporary.file('expected'), disk.bytes());
  await qemuImg.compare(`${folder}/0002.qcow2`, 'qcow2', temporary.file('expected'), 'raw');
  for (const name of ['0001.qcow2', '0002.qcow2'])
    assert.equal((await qemuImg.check(`${folder}/${name}`)).status, 0);
  const info = JSON.parse(await qemuImg.ok('info', '--output=json', `${folder}/0002.qcow2`));
  assert.deepEqual(
    [info['backing-filename'], info['backing-filename-format'], info['cluster-size']],
    ['0001.qcow2', 'qcow2', 4096],
  );
});

test('a failed backup is made up for by the bitmaps of both times', async () => {
  await using temporary = await temporaryFolder();
  const { folder, disk } = await started(temporary);
  await disk.write(1 * MiB, 1, 7);
  disk.checkpoint(checkpointNamed(2));
  // Nobody took the backup of checkpoint 2.
  await disk.write(2 * MiB, 1, 8);
  disk.checkpoint(checkpointNamed(3));
  const { manifest, changed } = await take(folder, disk.source());
  assert.deepEqual(manifest.bitmaps, [checkpointNamed(1), checkpointNamed(2)]);
  assert.equal(changed, 128 * KiB);
  assertSameBytes(await restored(folder), disk.bytes());
});

test('a checkpoint that was backed up already is left alone', async () => {
  await using temporary = await temporaryFolder();
  const { folder, disk } = await started(temporary);
  assert.equal((await take(folder, disk.source())).kind, 'nothing');
  assert.equal((await readPoints(folder)).length, 1);
});

test('what does not fit the newest backup is refused, and leaves the folder as it was', async () => {
  await using temporary = await temporaryFolder();
  const { folder, disk } = await started(temporary);
  await disk.write(1 * MiB, 1, 7);
  disk.checkpoint(checkpointNamed(2));
  await disk.write(2 * MiB, 1, 7);
  disk.checkpoint(checkpointNamed(3));
  const before = await readdir(folder);
  const other = checkpointNamed(3).replace('89abcdef', '00000000');
  const larger = new TestDisk(5 * MiB);
  const rows: readonly (readonly [Partial<BackupSource>, TakeOptions, string, RegExp])[] = [
    [{ bitmaps: [checkpointNamed(2)] }, {}, 'not-found', /bitmap 'backup\.1\..*' is not there/],
    [{ bitmaps: [checkpointNamed(1)] }, {}, 'not-found', /bitmap 2 of series 'backup' is not there/],
    [{ checkpoint: other }, {}, 'invalid', /not a checkpoint of the disk/],
    [{ checkpoint: undefined }, {}, 'invalid', /at no checkpoint/],
    [{ disk: larger.memory }, {}, 'invalid', /size of the disk has changed: it is 5242880 bytes/],
    [{}, { bitmaps: ['none'] }, 'not-found', /no bitmap 'none'/],
    [{}, { bitmaps: [checkpointNamed(2)] }, 'invalid', /since checkpoint 'backup\.2\./],
    [{}, { bitmaps: [checkpointNamed(1)], kind: 'full' }, 'invalid', /needs no bitmap/],
    [{}, { resume: true }, 'invalid', /no backup that was interrupted/],
    [{ frozen: false }, { verify: true }, 'invalid', /may change/],
  ];
  for (const [changes, options, code, words] of rows)
    await assert.rejects(take(folder, disk.source(changes), options), rejectsWith(code, words));
  assert.deepEqual(await readdir(folder), before);
});

test('a parent that is missing, cut, edited or of another making is refused', async () => {
  for (const [spoil, code, words] of [
    [(folder: string) => rm(`${folder}/0001.qcow2`), 'not-found', /'0001\.qcow2': No such file/],
    [(folder: string) => truncate(`${folder}/0001.qcow2`, 65_536), 'corrupt', /is 65536 bytes long/],
    [edit, 'corrupt', /its digest is another/],
    [
      async (folder: string) => {
        const text = await readFile(`${folder}/0001.json`, 'utf8');
        await writeFile(`${folder}/0001.json`, text.replace('"name": "disk"', '"name": "dusk"'));
      },
      'corrupt',
      /changed after it was written/,
    ],
  ] as const) {
    await using temporary = await temporaryFolder();
    const { folder, disk } = await started(temporary);
    await disk.write(1 * MiB, 1, 7);
    disk.checkpoint(checkpointNamed(2));
    await spoil(folder);
    await assert.rejects(take(folder, disk.source()), rejectsWith(code, words));
    await assert.rejects(restored(folder), rejectsWith(code, words));
    const [verdict] = await verifyFolder(folder, layerFiles);
    assert.equal(verdict?.problem?.code, code);
  }
});

/** Another byte in the middle of the layer. */
async function edit(folder: string): Promise<void> {
  const bytes = await readFile(`${folder}/0001.qcow2`);
  bytes[bytes.length - 5000] = 0x55;
  await writeFile(`${folder}/0001.qcow2`, bytes);
}

test('a layer that was only copied is known again by its digest', async () => {
  await using temporary = await temporaryFolder();
  const { folder, disk } = await started(temporary);
  await utimes(`${folder}/0001.qcow2`, 1, 1);
  await disk.write(1 * MiB, 1, 7);
  disk.checkpoint(checkpointNamed(2));
  assert.equal((await take(folder, disk.source())).kind, 'incremental');
  assertSameBytes(await restored(folder), disk.bytes());
});

/** A disk that fails from the read with this number on, until it is mended. */
function failing(disk: BlockSource, reads: number, error: DiskError) {
  let left = reads;
  const source: BlockSource = {
    size: disk.size,
    tryRead: () => false,
    read: async (into, offset) => {
      if (left-- <= 0) throw error;
      await disk.read(into, offset);
    },
    tryExtentAt: (offset, limit) => disk.tryExtentAt(offset, limit),
    extentAt: (offset, limit) => disk.extentAt(offset, limit),
    [Symbol.asyncDispose]: async () => undefined,
  };
  return source;
}

test('an interrupted backup is gone on with where it was durable, towards the same checkpoint only', async () => {
  await using temporary = await temporaryFolder();
  const folder = temporary.file('backups');
  const disk = new TestDisk(16 * MiB);
  await disk.write(0, 16 * MiB, 3);
  disk.checkpoint(checkpointNamed(1));
  const lost = new DiskError('closed', 'the server is gone');
  const cut = { stretch: 2 * MiB, parallel: 1 };
  const interrupted = () => take(folder, disk.source({ disk: failing(disk.memory, 5, lost) }), cut);
  await assert.rejects(interrupted(), rejectsWith('closed', /gone/));
  assert.deepEqual(await readPoints(folder), []);
  const report = await take(folder, disk.source(), { ...cut, resume: true, verify: true });
  assert.deepEqual([report.resumedAt, report.read, report.verified], [10 * MiB, 6 * MiB, true]);
  assertSameBytes(await restored(folder), disk.bytes());

  // The next one is interrupted and the disk moves on: nothing of it may be kept.
  await disk.write(0, 16 * MiB, 4);
  disk.checkpoint(checkpointNamed(2));
  await assert.rejects(interrupted(), rejectsWith('closed', /gone/));
  await disk.write(1 * MiB, 1 * MiB, 5);
  disk.checkpoint(checkpointNamed(3));
  await assert.rejects(
    take(folder, disk.source(), { resume: true }),
    rejectsWith('invalid', /of another point in time/),
  );
  const notes: string[] = [];
  const anew = await take(folder, disk.source(), { note: (sentence) => notes.push(sentence) });
  assert.deepEqual([anew.resumedAt, anew.read, notes.length], [0, 16 * MiB, 1]);
  assertSameBytes(await restored(folder), disk.bytes());
});

test('a backup of a source that may change is not gone on with', async () => {
  await using temporary = await temporaryFolder();
  const folder = temporary.file('backups');
  const disk = new TestDisk(8 * MiB);
  await disk.write(0, 8 * MiB, 3);
  disk.checkpoint(checkpointNamed(1));
  const lost = new DiskError('closed', 'the server is gone');
  const source = disk.source({ disk: failing(disk.memory, 3, lost), frozen: false });
  await assert.rejects(
    take(folder, source, { stretch: 2 * MiB, parallel: 1 }),
    rejectsWith('closed', /gone/),
  );
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name !== '.lock'),
    [],
  );
});

test('two writers of one folder: the second is refused', requires('qemu-img'), async () => {
  await using temporary = await temporaryFolder();
  await using _first = await lockFolder(temporary.file('backups'));
  await assert.rejects(lockFolder(temporary.file('backups')), rejectsWith('busy', /somebody else/));
});

test('a compressed backup gives back the same bytes, and reads whole clusters', async () => {
  await using temporary = await temporaryFolder();
  const { folder, disk } = await started(temporary, 4096);
  await disk.write(1 * MiB + 8 * KiB, 4 * KiB, 9);
  disk.checkpoint(checkpointNamed(2));
  const report = await take(folder, disk.source(), { compress: { level: undefined }, verify: true });
  assert.deepEqual([report.changed, report.read, report.overhead], [4 * KiB, 64 * KiB, 60 * KiB]);
  assertSameBytes(await restored(folder), disk.bytes());
});
