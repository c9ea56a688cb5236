/** A backup that was cut off when its layer was whole is finished by the next run, from every state between two steps. */
import assert from 'node:assert/strict';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { assertSameBytes, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { lockFolder, readPoints } from '../src/folder.ts';
import { journalPath, partPath, readJournal, writeJournal } from '../src/journal.ts';
import type { Manifest } from '../src/manifest.ts';
import { openPoint } from '../src/restore.ts';
import { takeBackup } from '../src/take.ts';
import { checkpointNamed, layerFiles, TestDisk } from './layer-files.ts';

const MiB = 1 << 20;

/** A folder with a full backup and one on top of it. */
async function started(temporary: TemporaryFolder) {
  const folder = temporary.file('backups');
  const disk = new TestDisk(4 * MiB);
  await disk.write(0, MiB, 1);
  const take = async () => {
    await using locked = await lockFolder(folder);
    return await takeBackup(disk.source(), locked, layerFiles);
  };
  disk.checkpoint(checkpointNamed(1));
  await take();
  await disk.write(MiB, MiB, 2);
  disk.checkpoint(checkpointNamed(2));
  const { manifest } = await take();
  return { folder, disk, take, manifest };
}

/** The steps that lead to a finished backup, the last one first, undone. */
const undone: readonly ((folder: string, manifest: Manifest) => Promise<void>)[] = [
  (folder, manifest) => writeJournal(folder, { state: 'copied', manifest }),
  (folder) => rm(`${folder}/0002.json`),
  (folder) => rename(`${folder}/0002.qcow2`, partPath(folder)),
];

for (let steps = 1; steps <= undone.length; steps++) {
  test(`a backup cut off ${steps} steps before its end is finished without its source`, async () => {
    await using temporary = await temporaryFolder();
    const { folder, disk, take, manifest } = await started(temporary);
    for (const undo of undone.slice(0, steps)) await undo(folder, manifest);
    const expected = disk.bytes();
    // The source has moved on: the finished backup is the one that the next builds upon.
    await disk.write(2 * MiB, MiB, 3);
    disk.checkpoint(checkpointNamed(3));
    const report = await take();
    assert.deepEqual([report.kind, report.manifest.parent?.number], ['incremental', 2]);
    for (const [wanted, bytes] of [
      ['2', expected],
      ['3', disk.bytes()],
    ] as const) {
      const { chain } = await openPoint(folder, wanted, layerFiles, 'whole');
      await using _ = chain;
      const seen = new Uint8Array(chain.source.size);
      await chain.source.read(seen, 0);
      assertSameBytes(seen, bytes);
    }
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.startsWith('.')),
      ['.lock'],
    );
  });
}

test('a journal that makes no sense is passed over, and what it was of is written anew', async () => {
  for (const text of [
    '',
    'null',
    '[]',
    '{"version":2}',
    '{"version":1,"undertaking":"[]","done":1}',
    '{"version":1,"undertaking":"x","done":1}',
    '{"version":1,"undertaking":"[3]","done":-1}',
    '{"version":1,"number":2,"manifest":"{}"}',
    'x'.repeat(600_000),
  ]) {
    await using temporary = await temporaryFolder();
    const { folder, disk, take } = await started(temporary);
    await writeFile(journalPath(folder), text);
    await writeFile(partPath(folder), 'left over');
    assert.equal(await readJournal(folder), undefined, text.slice(0, 30));
    await disk.write(2 * MiB, MiB, 3);
    disk.checkpoint(checkpointNamed(3));
    await take();
    assert.equal((await readPoints(folder)).length, 3);
    await assert.rejects(readFile(journalPath(folder)), /ENOENT/);
  }
});
