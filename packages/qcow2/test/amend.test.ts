import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { type HostFile, MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { type AmendChanges, type AmendTarget, amendQcow2 } from '../src/amend.ts';
import { createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { readInfo } from '../src/info.ts';
import { qcow2Format } from '../src/layer.ts';
import { openHost } from './host.ts';

/** Opens the image in `file` for an amendment, over zeros. */
const inFile = (file: HostFile) => async (): Promise<AmendTarget> => {
  const layer = await qcow2Format.open(file);
  const below = (size: number) => new MemoryDevice(size);
  return { host: file, layer, below, [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose]() };
};

async function amendPath(path: string, changes: AmendChanges): Promise<void> {
  await using file = await openHost(path);
  await amendQcow2(inFile(file), changes);
}

/** The facts that an amendment changes. */
async function factsOf(path: string) {
  const { 'format-specific': specific, 'virtual-size': size } = JSON.parse(
    await qemuImg.ok('info', '-f', 'qcow2', '--output=json', path),
  ) as Record<string, unknown>;
  return { specific, size };
}

/** Asserts that what `changes` makes of a copy of an image is what qemu-img makes of it. */
async function assertAsQemu(
  folder: TemporaryFolder,
  theirs: string,
  options: string,
  changes: AmendChanges,
  title: string,
): Promise<void> {
  const ours = folder.file('ours.qcow2');
  await copyFile(theirs, ours);
  await qemuImg.ok('amend', '-f', 'qcow2', '-o', options, theirs);
  await amendPath(ours, changes);
  const { status, stderr } = await qemuImg.check(ours);
  assert.equal(status, 0, `${title} ${options}: ${stderr}`);
  assert.deepEqual(await factsOf(ours), await factsOf(theirs), `${title} ${options}`);
  await qemuImg.compare(ours, 'qcow2', theirs, 'qcow2');
  assert.equal(await qemuImg.mapText(ours), await qemuImg.mapText(theirs), `${title} ${options}`);
}

describe('an amended image', () => {
  test("is qemu-img's: sound, of the same facts and bytes", requires('qemu-img', 'qemu-io'), async () => {
    await using folder = await temporaryFolder();
    const theirs = folder.file('theirs.qcow2');
    const steps: readonly (readonly [string, AmendChanges])[] = [
      ['refcount_bits=1', { refcountBits: 1 }],
      ['refcount_bits=64,lazy_refcounts=on', { refcountBits: 64, lazyRefcounts: true }],
      ['size=6M', { size: 6 * 2 ** 20 }],
      [
        'compat=0.10,refcount_bits=16,lazy_refcounts=off',
        { version: 2, refcountBits: 16, lazyRefcounts: false },
      ],
      ['size=3M', { size: 3 * 2 ** 20 }],
      ['compat=1.1,refcount_bits=2', { version: 3, refcountBits: 2 }],
      ['refcount_bits=32', { refcountBits: 32 }],
    ];
    const backing = { name: folder.file('backing.raw'), format: 'raw' };
    await qemuImg.create(backing.name, 2 ** 20, { format: 'raw' });
    await qemuIo(backing.name, ['write -P 9 0 1M'], 'raw');
    for (const [cluster, over] of [
      [512, {}],
      [4096, { backing }],
      [65_536, { backing }],
    ] as const) {
      await qemuImg.create(theirs, 2 ** 22, { options: { cluster_size: cluster }, ...over });
      const writes = ['write -P 1 0 1M', 'write -z 100k 70k', 'write -z -u 300k 200k', 'write -P 2 3M 100k'];
      await qemuIo(theirs, writes);
      const title = `${cluster} ${JSON.stringify(over)}`;
      for (const [options, changes] of steps) await assertAsQemu(folder, theirs, options, changes, title);
    }
  });

  test(
    'keeps its snapshots whole, whose zero clusters it shares',
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const theirs = folder.file('theirs.qcow2');
      const backing = { name: folder.file('backing.raw'), format: 'raw' };
      await qemuImg.create(backing.name, 2 ** 20, { format: 'raw' });
      await qemuIo(backing.name, ['write -P 9 0 1M'], 'raw');
      for (const over of [{}, { backing }]) {
        for (const cluster of [512, 65_536]) {
          await qemuImg.create(theirs, 2 ** 20, { options: { cluster_size: cluster }, ...over });
          await qemuIo(theirs, ['write -P 1 0 400k', 'write -z 64k 128k', 'write -z -u 512k 128k']);
          await qemuImg.ok('snapshot', '-c', 'one', theirs);
          await qemuIo(theirs, ['write -z 0 64k', 'write -P 2 128k 64k', 'write -z 700k 64k']);
          await qemuImg.ok('snapshot', '-c', 'two', theirs);
          await qemuIo(theirs, ['write -P 3 640k 64k']);
          const before = new Map<string, Buffer>();
          const raw = folder.file('raw');
          for (const name of ['one', 'two']) {
            await qemuImg.ok('convert', '-O', 'raw', '-l', name, theirs, raw);
            before.set(name, await readFile(raw));
          }
          await amendPath(theirs, { version: 2 });
          const { status, stderr } = await qemuImg.check(theirs);
          assert.equal(status, 0, stderr);
          for (const [name, bytes] of before) {
            await qemuImg.ok('convert', '-O', 'raw', '-l', name, theirs, raw);
            assert.ok((await readFile(raw)).equals(bytes), `${cluster} ${name}`);
          }
          await amendPath(theirs, { version: 3, refcountBits: 8 });
          assert.equal((await qemuImg.check(theirs)).status, 0);
        }
      }
    },
  );

  test('of version 2 has snapshots that version 3 takes', requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, 2 ** 20, { options: { compat: '0.10' } });
    await qemuImg.ok('snapshot', '-c', 'one', path);
    {
      // As programs of the time of version 2 wrote it: an entry without extra data.
      await using file = await openHost(path);
      const { snapshotsAt } = await readHeader(file);
      const entry = Buffer.alloc(72);
      await file.read(entry, snapshotsAt);
      const names = Buffer.from(entry.subarray(64, 68));
      entry.writeUInt32BE(0, 36);
      entry.fill(0, 40);
      names.copy(entry, 40);
      await file.write(entry, snapshotsAt);
    }
    await amendPath(path, { version: 3 });
    const { status, stderr } = await qemuImg.check(path);
    assert.equal(status, 0, stderr);
    await using file = await openHost(path);
    const { snapshots, version } = await readInfo(file);
    assert.deepEqual([version, snapshots[0]?.name, snapshots[0]?.diskSize], [3, 'one', 2 ** 20]);
  });
});

describe('what cannot be', () => {
  const refuse = async (file: MemoryDevice, changes: AmendChanges, message: string | RegExp) => {
    const before = Buffer.from(file.bytes());
    await assert.rejects(amendQcow2(inFile(file), changes), { message });
    assert.ok(before.equals(file.bytes()), `${message}: nothing has changed`);
  };

  test('is refused before anything changes', async () => {
    const file = new MemoryDevice();
    await createQcow2(file, { size: 2 ** 20, refcountBits: 8 });
    const changes = { version: 2, size: 2 ** 21 } as const;
    await refuse(file, changes, 'compat=0.10 requires refcount_bits=16');
    await refuse(file, { refcountBits: 64, backingName: 'x' }, 'Cannot amend the backing file');
    await refuse(
      file,
      { refcountBits: 24 },
      'Refcount width must be a power of two and may not exceed 64 bits',
    );
    await refuse(file, { lazyRefcounts: true, size: 1000 }, 'The new size must be a multiple of 512');
    await refuse(
      file,
      { dataFileRaw: true, refcountBits: 1 },
      'data-file-raw cannot be set on existing images',
    );
  });

  test('is a refcount too large for its width', requires('qemu-img', 'qemu-io'), async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, 2 ** 20);
    await qemuIo(path, ['write 0 64k']);
    for (const name of ['one', 'two', 'three']) await qemuImg.ok('snapshot', '-c', name, path);
    const file = new MemoryDevice();
    await file.write(await readFile(path), 0);
    await refuse(
      file,
      { refcountBits: 2, lazyRefcounts: true },
      /^Cannot decrease refcount entry width to 2 bits/,
    );
    await amendQcow2(inFile(file), { refcountBits: 4 });
    assert.equal((await readInfo(file)).refcountBits, 4);
  });
});
