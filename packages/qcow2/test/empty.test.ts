import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { DiskError, MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { empty } from '../src/empty.ts';
import { write } from '../src/write.ts';
import { BELOW, bytesOf, faultsOf, filled, type NewImage, newImage, reopened } from './new-image.ts';

const K64 = 65_536;
const SIZE = 32 * K64;

async function fullImage(options: Parameters<typeof newImage>[0], image = {}): Promise<NewImage> {
  const made = await newImage(options, { backed: true, ...image });
  await write(made.image, filled(options.size, 1), 0, made.below);
  await made.image.barrier.run();
  return made;
}

describe('an image that is emptied', () => {
  test('shows what is below, and takes as little as a new one', async () => {
    for (const options of [
      { size: SIZE },
      { size: SIZE, version: 2 },
      { size: SIZE, clusterSize: 512 },
      { size: SIZE, clusterSize: 4096, refcountBits: 1 },
    ] as const) {
      const made = await fullImage(options);
      await empty(made.image);
      assert.deepEqual(await bytesOf(made.image), filled(SIZE, BELOW));
      const clusterSize = options.clusterSize ?? K64;
      const l1Clusters = Math.ceil((made.image.l2.parent.entries * 8) / clusterSize);
      assert.equal(made.file.size, (3 + l1Clusters) * clusterSize, JSON.stringify(options));
      assert.deepEqual(await faultsOf(made), []);
      await write(made.image, filled(100, 2), 5000, made.below);
      assert.deepEqual(await faultsOf(made), []);
    }
  });

  test('has the length that qemu-img commit leaves', requires('qemu-img', 'qemu-io'), async () => {
    await using folder = await temporaryFolder();
    const [base, top] = [folder.file('base.qcow2'), folder.file('top.qcow2')];
    await qemuImg.create(base, SIZE);
    await qemuImg.create(top, SIZE, { backing: { name: base, format: 'qcow2' } });
    await qemuIo(top, [`write 0 ${SIZE}`]);
    const memory = new MemoryDevice();
    await memory.write(await readFile(top), 0);
    await qemuImg.ok('commit', '-q', top);
    const { image } = await reopened(memory);
    await empty(image);
    assert.equal(memory.size, (await readFile(top)).length);
  });

  test('keeps its refcount structures where it has no room to move them', async () => {
    // 64-bit refcounts of 512-byte clusters: one block counts 64 clusters, too few for this L1 table twice.
    const options = { size: 2 ** 26, clusterSize: 512, refcountBits: 64 };
    const made = await newImage(options, { backed: true });
    await write(made.image, filled(200_000, 1), 0, made.below);
    await empty(made.image);
    assert.deepEqual(await bytesOf(made.image, 0, 300_000), filled(300_000, BELOW));
    assert.deepEqual(await faultsOf(made), []);
  });

  test('leaves its snapshots alone', requires('qemu-img', 'qemu-io'), async () => {
    await using folder = await temporaryFolder();
    const [base, top] = [folder.file('base.qcow2'), folder.file('top.qcow2')];
    await qemuImg.create(base, SIZE);
    await qemuImg.create(top, SIZE, { backing: { name: base, format: 'qcow2' } });
    await qemuIo(top, ['write -P 7 0 1M']);
    await qemuImg.ok('snapshot', '-c', 'one', top);
    await qemuIo(top, ['write -P 8 512k 1M', 'write -c -P 9 1792k 64k']);
    const memory = new MemoryDevice();
    await memory.write(await readFile(top), 0);
    const made = await reopened(memory, { discardHost: true });
    await empty(made.image);
    assert.deepEqual(await faultsOf(made), []);
    await writeFile(top, memory.bytes());
    assert.equal((await qemuImg.check(top)).status, 0);
    const raw = folder.file('snapshot.raw');
    await qemuImg.ok('convert', '-l', 'one', '-O', 'raw', top, raw);
    const seen = await readFile(raw);
    assert.deepEqual([seen[0], seen[2 ** 20 - 1], seen[2 ** 20]], [7, 7, 0]);
    assert.equal((await made.image.reader.map(0, SIZE)).kind, 'below');
  });

  test('without tables stays as it is', async () => {
    const made = await newImage({ size: 0 });
    await empty(made.image);
    assert.deepEqual(await faultsOf(made), []);
  });
});

test('emptying that fails at any request leaves an image that holds all or nothing', async () => {
  for (let at = 0; ; at++) {
    const made = await fullImage({ size: 4 * K64, clusterSize: 4096 });
    let count = 0;
    let failed = false;
    made.file.fault = () => {
      if (count++ !== at) return undefined;
      failed = true;
      return new DiskError('io', 'the test says so');
    };
    await empty(made.image).catch((error: unknown) => assert.ok(error instanceof DiskError));
    made.file.fault = () => undefined;
    await made.image.close().catch((error: unknown) => assert.ok(error instanceof DiskError));
    const again = await reopened(made.memory);
    const bytes = await bytesOf(again.image);
    assert.ok(
      [1, BELOW].includes(bytes[0] as number) && bytes.every((byte) => byte === bytes[0]),
      `request ${at}`,
    );
    const faults = await faultsOf(again);
    assert.deepEqual(
      faults.filter((text) => text.includes('ERROR')),
      [],
      `request ${at}`,
    );
    if (!failed) break;
  }
});

test('after it failed half way nothing is written any more', async () => {
  const made = await fullImage({ size: SIZE });
  made.file.truncate = () => Promise.reject(new DiskError('io', 'the test says so'));
  await assert.rejects(empty(made.image), { code: 'io' });
  await assert.rejects(write(made.image, filled(10, 1), 0, made.below), { code: 'io', message: /moved/ });
  await assert.rejects(made.image.barrier.run(), { code: 'io' });
  const before = made.memory.bytes();
  await made.image.close();
  assert.deepEqual(made.memory.bytes(), before);
});
