import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { readHeader } from '../src/header.ts';
import { resize } from '../src/resize.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { bytesOf, faultsOf, filled, newImage, reopened } from './new-image.ts';

const K64 = 65_536;

/** Guest bytes with what `below` holds where the image leaves it to it. */
async function seenOver(made: Awaited<ReturnType<typeof newImage>>, offset: number, length: number) {
  const all = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const mapping = await made.image.reader.map(offset + done, length - done);
    const into = all.subarray(done, done + mapping.length);
    if (mapping.kind === 'below') await made.below.read(into, offset + done);
    else await made.image.reader.read(into, offset + done);
    done += mapping.length;
  }
  return all;
}

describe('a disk that grows', () => {
  test('moves its L1 table, gives the old one back, and says its new size', async () => {
    const made = await newImage({ size: 2 ** 20, clusterSize: 512 });
    const { image, file, below } = made;
    await write(image, filled(5000, 1), 0, below);
    const { l1At } = await readHeader(file);
    await resize(image, 2 ** 26, below);
    const header = await readHeader(file);
    assert.equal(header.size, 2 ** 26);
    assert.equal(header.l1Entries, 2 ** 26 / (64 * 512));
    assert.notEqual(header.l1At, l1At);
    assert.deepEqual(await bytesOf(image, 0, 5000), filled(5000, 1));
    await write(image, filled(5000, 2), 2 ** 26 - 5000, below);
    assert.deepEqual(await faultsOf(made), []);
  });

  test(
    'shows zeros where bytes of others were left: in the cut cluster and behind it',
    requires('qemu-img'),
    async () => {
      await using folder = await temporaryFolder();
      const path = folder.file('image.qcow2');
      // QEMU shrinks the disk and leaves the bytes in the cluster that the new end cuts.
      await qemuImg.create(path, 4 * K64);
      await qemuIo(path, ['write -P 1 0 256k']);
      await qemuImg.ok('resize', '-q', '--shrink', path, String(K64 + 512));
      const memory = new MemoryDevice();
      await memory.write(await readFile(path), 0);
      const made = { ...(await reopened(memory)), below: new MemoryDevice(8 * K64) };
      await resize(made.image, 4 * K64, made.below);
      const bytes = await bytesOf(made.image);
      assert.deepEqual(bytes.subarray(0, K64 + 512), filled(K64 + 512, 1));
      assert.ok(bytes.subarray(K64 + 512).every((byte) => byte === 0));
      await made.image.close();
      await writeFile(path, memory.bytes());
      assert.equal((await qemuImg.check(path)).status, 0);
    },
  );

  test('hides what the image below holds past the old end, in both versions', async () => {
    for (const version of [2, 3] as const) {
      for (const before of ['nothing', 'data', 'zeros'] as const) {
        const made = await newImage({ version, size: K64 + 512 }, { backed: true });
        const { image, below } = made;
        if (before === 'data') await write(image, filled(512, 1), K64, below);
        if (before === 'zeros') await zero(image, K64, 512, below, {});
        const old = await seenOver(made, 0, K64 + 512);
        await resize(image, 2 * K64 + 1024, below);
        const seen = await seenOver(made, 0, 2 * K64 + 1024);
        assert.deepEqual(seen.subarray(0, K64 + 512), old);
        assert.ok(
          seen.subarray(K64 + 512).every((byte) => byte === 0),
          `${version} ${before}`,
        );
        assert.deepEqual(await faultsOf(made), []);
      }
    }
  });

  test('takes no space for what is zeros below', async () => {
    const made = await newImage({ size: K64 }, { backed: true });
    const below = new MemoryDevice(2 ** 40);
    await resize(made.image, 2 ** 40, below);
    assert.equal((await made.image.reader.map(K64, 2 ** 40)).kind, 'below');
    assert.ok(made.file.size < 2 ** 20);
  });

  test('by nothing changes nothing', async () => {
    const { image, file, below } = await newImage({ size: K64 });
    await resize(image, K64, below);
    assert.equal(file.changes.length, 0);
  });
});

describe('a size is refused', () => {
  test('that is no multiple of 512, that is smaller, or too large for the cluster size', async () => {
    const { image, below } = await newImage({ size: K64, clusterSize: 512 });
    const message = 'The new size must be a multiple of 512';
    await assert.rejects(resize(image, K64 + 100, below), { code: 'invalid', message });
    await assert.rejects(resize(image, 512, below), { code: 'not-supported' });
    // 32 MiB of L1 table lead to 4 Mi tables of 64 clusters of 512 bytes.
    await assert.rejects(resize(image, 2 ** 37 + 512, below), { code: 'limit' });
  });

  test('for an image of version 2 that has snapshots', requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, K64, { options: { compat: '0.10' } });
    await qemuImg.ok('snapshot', '-c', 'one', path);
    const memory = new MemoryDevice();
    await memory.write(await readFile(path), 0);
    const { image } = await reopened(memory);
    const message = "Can't resize a v2 image which has snapshots";
    await assert.rejects(resize(image, 2 * K64, memory), { code: 'not-supported', message });
  });
});
