import assert from 'node:assert/strict';
import { copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { readHeader } from '../src/header.ts';
import { Image } from '../src/image.ts';
import { resize } from '../src/resize.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { openHost } from './host.ts';
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

describe('a disk that shrinks', () => {
  test('keeps what is before its new end, and what is behind it is zeros when it grows again', async () => {
    for (const version of [2, 3] as const) {
      for (const backed of [false, true]) {
        const made = await newImage({ version, size: 40 * 4096, clusterSize: 4096 }, { backed });
        const { image, below } = made;
        await write(image, filled(40 * 4096, 1), 0, below);
        if (version === 3) await zero(image, 20 * 4096, 4096, below, {});
        await resize(image, 10 * 4096 + 512, below);
        assert.deepEqual(await faultsOf(made), []);
        assert.equal((await readHeader(made.file)).size, 10 * 4096 + 512);
        await resize(image, 40 * 4096, below);
        const seen = await seenOver(made, 0, 40 * 4096);
        assert.deepEqual(seen.subarray(0, 10 * 4096 + 512), filled(10 * 4096 + 512, 1));
        assert.ok(seen.subarray(10 * 4096 + 512).every((byte) => byte === 0));
        assert.deepEqual(await faultsOf(made), []);
      }
    }
  });

  test('gives back tables, refcount blocks and the tail of the file', async () => {
    const made = await newImage({ size: 2 ** 20, clusterSize: 512, refcountBits: 64 });
    const { image, file, below } = made;
    const { size: empty } = file;
    await write(image, filled(2 ** 20, 1), 0, below);
    assert.ok(file.size > 2 ** 20);
    await resize(image, 512, below);
    assert.deepEqual(await faultsOf(made), []);
    // One cluster of data and its L2 table, and the places that the structures had meanwhile moved to.
    assert.ok(file.size <= empty + 2 * 512 + 8 * 512, `${file.size} after ${empty}`);
    await write(image, filled(512, 2), 0, below);
    await resize(image, 2 ** 20, below);
    await write(image, filled(2 ** 20, 3), 0, below);
    assert.deepEqual(await bytesOf(image, 0, 2 ** 20), filled(2 ** 20, 3));
    assert.deepEqual(await faultsOf(made), []);
  });

  test(
    'takes no more of the host than after qemu-img, wherever in the file its rest lies',
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const [ours, theirs] = [folder.file('ours.qcow2'), folder.file('theirs.qcow2')];
      const size = 2 ** 24;
      for (const clusterSize of [4096, K64, 2 ** 20]) {
        await qemuImg.create(ours, size, { options: { cluster_size: clusterSize } });
        // From the end to the start: what is kept lies behind what goes.
        const pieces = Array.from({ length: 16 }, (_, index) => `write -P ${index} ${15 - index}M 1M`);
        await qemuIo(ours, pieces);
        await copyFile(ours, theirs);
        const full = (await stat(ours)).blocks;
        await qemuImg.ok('resize', '-q', '-f', 'qcow2', '--shrink', theirs, '3M');
        {
          await using file = await openHost(ours);
          const image = new Image(file, await readHeader(file), {});
          await resize(image, 3 * 2 ** 20, new MemoryDevice());
          await image.close();
        }
        const [left, leftByQemu] = [(await stat(ours)).blocks, (await stat(theirs)).blocks];
        assert.ok(leftByQemu < full / 2, `${leftByQemu} of ${full}`);
        assert.ok(left <= leftByQemu, `clusters of ${clusterSize}: ${left} blocks, and ${leftByQemu}`);
        assert.equal((await qemuImg.check(ours)).status, 0);
        await qemuImg.compare(ours, 'qcow2', theirs, 'qcow2');
      }
    },
  );

  test(
    'ends its file where QEMU ends it, and leaves its snapshots whole',
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const [ours, theirs] = [folder.file('ours.qcow2'), folder.file('theirs.qcow2')];
      for (const options of [{}, { cluster_size: 512, refcount_bits: 64 }, { cluster_size: 4096 }]) {
        for (const snapshot of [false, true]) {
          await qemuImg.create(theirs, 2 ** 22, { options });
          await qemuIo(theirs, ['write -P 1 0 4M', 'write -z 2M 64k', 'discard 3M 128k']);
          if (snapshot) await qemuImg.ok('snapshot', '-c', 'one', theirs);
          if (snapshot) await qemuIo(theirs, ['write -P 2 512k 1M']);
          const memory = new MemoryDevice();
          await memory.write(await readFile(theirs), 0);
          await qemuImg.ok('resize', '-q', '-f', 'qcow2', '--shrink', theirs, '1000448');
          const { image } = await reopened(memory);
          await resize(image, 1_000_448, memory);
          await image.close();
          await writeFile(ours, memory.bytes());
          const title = JSON.stringify({ options, snapshot });
          const { status, stderr } = await qemuImg.check(ours);
          assert.equal(status, 0, `${title} ${stderr}`);
          await qemuImg.compare(ours, 'qcow2', theirs, 'qcow2');
          if (!snapshot) assert.equal(memory.size, (await stat(theirs)).size, title);
          if (!snapshot) continue;
          // Going back to the snapshot brings back its size.
          for (const path of [ours, theirs]) await qemuImg.ok('snapshot', '-a', 'one', path);
          assert.equal((await qemuImg.check(ours)).status, 0, title);
          await qemuImg.compare(ours, 'qcow2', theirs, 'qcow2');
          await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', ours, folder.file('ours.raw'));
          const whole = await readFile(folder.file('ours.raw'));
          assert.deepEqual([whole.length, whole[2 ** 20], whole[2 ** 22 - 1]], [2 ** 22, 1, 1], title);
        }
      }
    },
  );
});

describe('a disk in an external data file', () => {
  test(
    'changes its size as QEMU does, and the data file with it',
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const [ours, theirs] = [folder.file('ours'), folder.file('theirs')];
      for (const raw of ['off', 'on']) {
        for (const [size, preallocation] of [
          [2 ** 21, 'off'],
          [2 ** 21, 'metadata'],
          [2 ** 21, 'full'],
          [100 * 512, 'off'],
        ] as const) {
          for (const path of [ours, theirs]) {
            const options = { data_file: `${path}.data`, data_file_raw: raw };
            await qemuImg.create(path, 2 ** 20, { options });
            await qemuIo(path, ['write -P 1 0 1M']);
          }
          const args = ['-q', '-f', 'qcow2', `--preallocation=${preallocation}`, '--shrink'];
          await qemuImg.ok('resize', ...args, theirs, String(size));
          {
            await using file = await openHost(ours);
            await using data = await openHost(`${ours}.data`);
            const below = new MemoryDevice(size);
            const image = new Image(file, await readHeader(file), {}, data);
            await resize(image, size, below, { preallocation });
            await image.close();
          }
          const title = `${raw} ${size} ${preallocation}`;
          const { status, stderr } = await qemuImg.check(ours);
          assert.equal(status, 0, `${title} ${stderr}`);
          await qemuImg.compare(ours, 'qcow2', theirs, 'qcow2');
          assert.equal(await qemuImg.mapText(ours), await qemuImg.mapText(theirs), title);
          assert.equal((await stat(`${ours}.data`)).size, (await stat(`${theirs}.data`)).size, title);
        }
      }
    },
  );
});

describe('a size is refused', () => {
  test('that is no multiple of 512, or too large for the cluster size', async () => {
    const { image, below } = await newImage({ size: K64, clusterSize: 512 });
    const message = 'The new size must be a multiple of 512';
    await assert.rejects(resize(image, K64 + 100, below), { code: 'invalid', message });
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
