import assert from 'node:assert/strict';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, run, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { DirtyBit, repairDirty } from '../src/dirty-bit.ts';
import { readHeader } from '../src/header.ts';
import { qcow2Format } from '../src/layer.ts';
import { write } from '../src/write.ts';
import { readGuest } from './guest.ts';
import { openHost } from './host.ts';
import { filled, newImage } from './new-image.ts';
import { RecordingFile } from './recording.ts';

/** An image that a qemu-io which died in the midst of its work left behind. */
async function leftByQemu(
  folder: TemporaryFolder,
  options: Record<string, string | number>,
  commands: readonly string[],
): Promise<string> {
  const path = folder.file('left.qcow2');
  await qemuImg.create(path, '64M', { options: { lazy_refcounts: 'on', ...options } });
  const args = [...commands, 'abort'].flatMap((command) => ['-c', command]);
  const { status } = await run('qemu-io', ['-f', 'qcow2', ...args, path]);
  assert.notEqual(status, 0);
  return path;
}

const commands = [
  'write -P 1 0 3M',
  'write -P 2 20M 100k',
  'discard 1M 1M',
  'write -z 2M 64k',
  'flush',
  'write -P 3 40M 1M',
  'flush',
];

for (const options of [
  {},
  { cluster_size: 512 },
  { extended_l2: 'on', refcount_bits: 1 },
  { cluster_size: 4096, refcount_bits: 64 },
]) {
  test(
    `an image left dirty by QEMU is repaired when it is opened for writing: ${JSON.stringify(options)}`,
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const path = await leftByQemu(folder, options, commands);
      const [theirs, raw] = [folder.file('theirs.qcow2'), folder.file('content.raw')];
      await copyFile(path, theirs);
      await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
      await using file = await openHost(path);
      assert.equal((await readHeader(file)).incompatible & 1n, 1n);
      assert.notEqual((await checkImage(file)).corruptions, 0, 'its refcounts are stale');

      const before = await readFile(path);
      const source = await qcow2Format.openSource(file);
      const content = await readGuest(source, 0, source.size);
      assert.ok((await readFile(raw)).equals(content), 'it can be read as it is');
      assert.ok(before.equals(await readFile(path)), 'and reading writes nothing');

      const layer = await qcow2Format.open(file);
      assert.equal((await readHeader(file)).incompatible & 1n, 0n);
      const report = await checkImage(file);
      assert.deepEqual([report.corruptions, report.leaks, report.checkErrors], [0, 0, 0]);
      await layer[Symbol.asyncDispose]();
      assert.equal((await qemuImg.check(path)).status, 0);
      await qemuImg.compare(path, 'qcow2', raw, 'raw');
      // QEMU's own repair counts the same.
      await qemuImg.ok('check', '-q', '-f', 'qcow2', '-r', 'all', theirs);
      const counts = async (image: string) => (await qemuImg.check(image)).report['allocated-clusters'];
      assert.equal(await counts(path), await counts(theirs));
    },
  );
}

test(
  'an image that we left dirty is read, repaired and clean in QEMU',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const made = await newImage({ size: 2 ** 24, lazyRefcounts: true });
    await write(made.image, filled(300_000, 7), 1_000_000, made.below);
    await made.image.barrier.run();
    const path = folder.file('ours.qcow2');
    await writeFile(path, made.memory.bytes());
    const info = JSON.parse(await qemuImg.ok('info', '--output=json', path)) as { 'dirty-flag': boolean };
    assert.equal(info['dirty-flag'], true);
    assert.equal((await qemuImg.check(path)).status, 2, 'its refcounts are behind');
    const first = ['-c', 'read -P 7 1000000 300000', '-c', 'write -P 8 8M 64k'];
    assert.equal((await run('qemu-io', ['-f', 'qcow2', ...first, path])).status, 0);
    assert.equal((await qemuImg.check(path)).status, 0);
    await qemuIo(path, ['read -P 7 1000000 300000', 'read -P 8 8M 64k']);

    // Closed as it should be, it is clean without anybody's repair.
    await made.image.close();
    await writeFile(path, made.memory.bytes());
    assert.equal((await qemuImg.check(path)).status, 0);
    assert.equal((await readHeader(made.memory)).incompatible, 0n);
  },
);

/** A dirty image of ours with data in 100 clusters, whose refcount block says nothing at all. */
async function withoutCounts(clusterSize: number): Promise<MemoryDevice> {
  const made = await newImage({ size: 2 ** 22, clusterSize });
  await write(made.image, filled(100 * clusterSize, 5), 0, made.below);
  await made.image.close();
  await made.memory.write(Uint8Array.of(1), 72 + 7);
  return made.memory;
}

describe('a rebuild', () => {
  test('makes blocks that are missing, where nobody is', async () => {
    const memory = await withoutCounts(512);
    const header = await readHeader(memory);
    await memory.write(new Uint8Array(header.refcountTableClusters * 512), header.refcountTableAt);
    const repaired = await repairDirty(memory);
    assert.equal(repaired.incompatible, 0n);
    const { corruptions, leaks, checkErrors } = await checkImage(memory);
    assert.deepEqual([corruptions, leaks, checkErrors], [0, 0, 0]);
    const source = await qcow2Format.openSource(memory);
    assert.deepEqual(await readGuest(source, 0, 51_200), filled(51_200, 5));
  });

  test('counts what lies behind the end of the file as used, and the file reaches over it', async () => {
    const memory = await withoutCounts(4096);
    const end = memory.size;
    await memory.truncate(end - 20 * 4096);
    const file = new RecordingFile(memory);
    await repairDirty(file);
    assert.equal(memory.size, end);
    const { corruptions, leaks } = await checkImage(memory);
    assert.deepEqual([corruptions, leaks], [0, 0]);
  });

  test('writes nothing but the header where the counts are right', async () => {
    const memory = await withoutCounts(65_536);
    const file = new RecordingFile(memory);
    await repairDirty(file);
    assert.deepEqual(
      file.changes.map(({ offset }) => offset),
      [72],
    );
  });

  test('that leaves errors is an error, and the image stays dirty', async () => {
    const memory = await withoutCounts(65_536);
    // The first entry of the L2 table: far behind the end of the file.
    await memory.write(Uint8Array.of(0x10), 4 * 65_536 + 2);
    const message = /^Could not repair dirty image: /;
    await assert.rejects(qcow2Format.open(memory), { code: 'corrupt', message });
    assert.equal((await readHeader(memory)).incompatible & 1n, 1n);
  });
});

test('a repair that a power cut ends is begun again', async () => {
  const memory = await withoutCounts(512);
  const header = await readHeader(memory);
  await memory.write(new Uint8Array(header.refcountTableClusters * 512), header.refcountTableAt);
  const start = memory.bytes();
  const recording = new RecordingFile(memory);
  await repairDirty(recording);
  for (let kept = 0; kept <= recording.changes.length; kept++) {
    const cut = new MemoryDevice();
    await cut.write(start, 0);
    for (const { offset, bytes } of recording.changes.slice(0, kept))
      if (bytes !== undefined) await cut.write(bytes, offset);
    const now = await readHeader(cut);
    if ((now.incompatible & 1n) !== 0n) await repairDirty(cut);
    const { corruptions, leaks } = await checkImage(cut);
    assert.deepEqual([corruptions, leaks], [0, 0], `after ${kept} writes`);
  }
});

/** A new image with lazy refcounts. */
async function lazyImage(): Promise<RecordingFile> {
  const { file } = await newImage({ size: 2 ** 20, lazyRefcounts: true });
  return file;
}

test('the dirty bit counts once it is durable, and other bits of its field are left alone', async () => {
  const file = await lazyImage();
  const dirty = new DirtyBit(await readHeader(file));
  await file.write(Uint8Array.of(2), 72 + 7);
  await dirty.write(file);
  assert.equal(dirty.isSet, false);
  assert.equal((await readHeader(file)).incompatible, 3n);
  dirty.isDurable();
  const { length } = file.flushes;
  await dirty.clear(file);
  assert.equal((await readHeader(file)).incompatible, 2n);
  assert.equal(file.flushes.length, length + 1);
  const writes = file.changes.length;
  await dirty.clear(file);
  assert.equal(file.changes.length, writes, 'what is clear is not written');
});

test('refcounts may wait until the image is being closed, and only with lazy refcounts', async () => {
  const dirty = new DirtyBit(await readHeader(await lazyImage()));
  assert.equal(dirty.allowsLaziness, true);
  dirty.endLaziness();
  assert.equal(dirty.allowsLaziness, false);
  assert.equal(new DirtyBit({ compatible: 0n }).allowsLaziness, false);
});
