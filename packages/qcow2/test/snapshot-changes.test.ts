import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, run, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../src/snapshot-changes.ts';
import { openHost } from './host.ts';

const NOW = { dateSeconds: 1_700_000_000, dateNanoseconds: 5000 };

test(
  'snapshots of ours and of QEMU in one image are sound for both, whoever creates, applies or deletes',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    for (const options of [
      {},
      { cluster_size: 512 },
      { compat: '0.10', cluster_size: 4096 },
      { refcount_bits: 64, cluster_size: 1024 },
      { refcount_bits: 8, cluster_size: 4096 },
    ]) {
      const path = folder.file('image.qcow2');
      await qemuImg.create(path, '3M', { options });
      await qemuIo(path, ['write -P 1 0 300k', 'write -c -P 2 1M 64k', 'write -z 2M 128k']);
      const told = JSON.stringify(options);
      await ours(path, (file) => createSnapshot(file, { name: 'one', ...NOW }));
      await assertSound(path, told);
      await qemuIo(path, ['write -P 3 100k 300k', 'write -P 3 1M 10k', 'discard 2M 64k']);
      await assertSound(path, `${told} written`);
      await assertReads(folder, path, 'one', ['read -P 1 0 300k', 'read -P 2 1M 64k', 'read -P 0 2M 128k']);
      await qemuImg.ok('snapshot', '-c', 'two', path);
      await ours(path, (file) => createSnapshot(file, { name: 'three', ...NOW }));
      await assertSound(path, `${told} three`);
      await ours(path, (file) => applySnapshot(file, { idOrName: 'one' }));
      await assertSound(path, `${told} applied`);
      await qemuIo(path, ['read -P 1 0 300k', 'read -P 2 1M 64k', 'write -P 4 0 3M']);
      await ours(path, (file) => deleteSnapshot(file, { id: undefined, name: 'one' }));
      await assertSound(path, `${told} deleted`);
      await qemuImg.ok('snapshot', '-a', 'three', path);
      await qemuIo(path, ['read -P 3 100k 300k', 'read -P 3 1M 10k', 'read -P 1 0 100k']);
      await qemuImg.ok('snapshot', '-d', 'three', path);
      await ours(path, (file) => deleteSnapshot(file, { idOrName: 'two' }));
      await assertSound(path, `${told} none`);
      await qemuIo(path, ['read -P 3 100k 300k', 'read -P 3 1M 10k', 'read -P 1 0 100k']);
    }
  },
);

async function ours(
  path: string,
  change: (file: Awaited<ReturnType<typeof openHost>>) => Promise<void>,
): Promise<void> {
  await using file = await openHost(path);
  await change(file);
}

async function assertSound(path: string, told: string): Promise<void> {
  const { status, stdout, stderr } = await run('qemu-img', ['check', path]);
  assert.equal(status, 0, `${told}: ${stdout}${stderr}`);
}

async function assertReads(
  folder: TemporaryFolder,
  path: string,
  snapshot: string,
  commands: readonly string[],
): Promise<void> {
  const copy = folder.file('copy.qcow2');
  await copyFile(path, copy);
  await qemuImg.ok('snapshot', '-a', snapshot, copy);
  await qemuIo(copy, commands);
}

async function fresh(options: CreateQcow2Options): Promise<MemoryDevice> {
  const file = new MemoryDevice();
  await createQcow2(file, options);
  const layer = await qcow2Format.open(file);
  const below = new MemoryDevice(options.size);
  await layer.write(new Uint8Array(70_000).fill(7), 1000, below);
  await layer[Symbol.asyncDispose]();
  return file;
}

test('a refcount that would not fit its width is an error that changes no byte', async () => {
  for (const refcountBits of [1, 2] as const) {
    const file = await fresh({ refcountBits, clusterSize: 4096, size: 2 ** 20 });
    for (let i = 1; i < 2 ** refcountBits - 1; i++) await createSnapshot(file, { name: `${i}`, ...NOW });
    const before = file.bytes();
    await assert.rejects(createSnapshot(file, { name: 'one too many', ...NOW }), { code: 'invalid' });
    assert.ok(Buffer.from(before).equals(file.bytes()));
    const { corruptions, leaks } = await checkImage(file);
    assert.deepEqual([corruptions, leaks], [0, 0]);
  }
});

test('snapshots that come and go leave the file as long as it was', async () => {
  const file = await fresh({ clusterSize: 4096, size: 2 ** 20 });
  let longest = 0;
  for (let i = 0; i < 20; i++) {
    await createSnapshot(file, { name: 'a', ...NOW });
    await createSnapshot(file, { name: 'b', ...NOW });
    await applySnapshot(file, { idOrName: 'a' });
    await deleteSnapshot(file, { idOrName: 'a' });
    await deleteSnapshot(file, { idOrName: 'b' });
    if (i === 2) longest = file.size;
  }
  assert.equal(file.size, longest);
});
