import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { createFile, MemoryDevice, openFile, type Preallocation } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { resize } from '../src/resize.ts';
import { write } from '../src/write.ts';
import { openHost } from './host.ts';
import { BELOW, bytesOf, faultsOf, filled, newImage } from './new-image.ts';

const MODES: readonly Exclude<Preallocation, 'off'>[] = ['metadata', 'falloc', 'full'];

/** Sizes in which the refcount structures stay, get more blocks, and get a longer table. */
const SHAPES = [
  { clusterSize: 65_536, refcountBits: 16, size: 2 ** 20 },
  { clusterSize: 65_536, refcountBits: 64, size: 70 * 2 ** 20 },
  { clusterSize: 4096, refcountBits: 16, size: 21 * 2 ** 20 },
  { clusterSize: 512, refcountBits: 64, size: 5 * 2 ** 20 },
  { clusterSize: 2 ** 21, refcountBits: 1, size: 9 * 2 ** 20 },
  { clusterSize: 16_384, refcountBits: 16, size: 3 * 2 ** 20, extendedL2: true },
] as const;

for (const preallocation of MODES) {
  test(
    `a new image with preallocation=${preallocation} is laid out as QEMU's`,
    requires('qemu-img'),
    async () => {
      await using folder = await temporaryFolder();
      const [ours, theirs] = [folder.file('ours'), folder.file('theirs')];
      for (const shape of SHAPES) {
        const { size, clusterSize, refcountBits } = shape;
        const title = JSON.stringify(shape);
        {
          await using file = await createFile(ours);
          await createQcow2(file, { ...shape, preallocation });
        }
        const extended = 'extendedL2' in shape ? { extended_l2: 'on' } : {};
        const options = {
          cluster_size: clusterSize,
          refcount_bits: refcountBits,
          preallocation,
          ...extended,
        };
        await qemuImg.create(theirs, size, { options });
        const { status, stderr } = await qemuImg.check(ours);
        assert.equal(status, 0, `${title} ${stderr}`);
        // While its refcount table moves, QEMU's metadata comes to lie a cluster elsewhere.
        if (preallocation === 'metadata' && clusterSize === 512) continue;
        assert.equal(await qemuImg.mapText(ours), await qemuImg.mapText(theirs), title);
        assert.equal((await stat(ours)).size, (await stat(theirs)).size, title);
      }
    },
  );
}

for (const preallocation of MODES) {
  test(
    `a disk that grows with preallocation=${preallocation} maps as QEMU's`,
    requires('qemu-img'),
    async () => {
      await using folder = await temporaryFolder();
      const [ours, theirs, backing] = [folder.file('ours'), folder.file('theirs'), folder.file('backing')];
      await qemuImg.create(backing, 2 ** 22, { format: 'raw' });
      for (const name of [undefined, backing]) {
        for (const options of [
          { cluster_size: 4096 },
          { cluster_size: 65_536 },
          { cluster_size: 65_536, extended_l2: 'on' },
        ]) {
          const below = name === undefined ? {} : { backing: { name, format: 'raw' } };
          for (const path of [ours, theirs]) await qemuImg.create(path, 2 ** 20, { options, ...below });
          await qemuImg.ok('resize', '-q', '-f', 'qcow2', `--preallocation=${preallocation}`, theirs, '6M');
          {
            await using file = await openHost(ours);
            await using layer = await qcow2Format.open(file);
            // What lies below reaches past the old end, and holds something there.
            const full = new MemoryDevice(6 * 2 ** 20);
            if (name !== undefined) await full.write(filled(4096, BELOW), 2 ** 21);
            await layer.resize(6 * 2 ** 20, full, { preallocation });
          }
          assert.equal((await qemuImg.check(ours)).status, 0);
          assert.equal(
            await qemuImg.mapText(ours),
            await qemuImg.mapText(theirs),
            `${name} ${JSON.stringify(options)}`,
          );
        }
      }
    },
  );
}

describe('preallocated space', () => {
  test('shows zeros, whatever the places held and whatever is below', async () => {
    for (const version of [2, 3] as const) {
      for (const backed of [false, true]) {
        for (const preallocation of MODES) {
          const made = await newImage({ version, size: 30 * 4096, clusterSize: 4096 }, { backed });
          const { image, below } = made;
          await write(image, filled(30 * 4096, 1), 0, below);
          await resize(image, 4 * 4096 + 512, below);
          await resize(image, 40 * 4096, below, { preallocation });
          const bytes = await bytesOf(image);
          assert.deepEqual(bytes.subarray(0, 4 * 4096 + 512), filled(4 * 4096 + 512, 1));
          assert.ok(
            bytes.subarray(4 * 4096 + 512).every((byte) => byte === 0),
            `${version} ${backed} ${preallocation}`,
          );
          const before = made.file.size;
          await write(image, filled(35 * 4096, 2), 5 * 4096, below);
          assert.equal(made.file.size, before, 'writing takes no new place');
          assert.deepEqual(await faultsOf(made), []);
        }
      }
    }
  });

  test('is refused for a disk that shrinks, and over a backing file of a new image', async () => {
    const { image, below } = await newImage({ size: 2 ** 20 });
    const message = "Preallocation can't be used for shrinking an image";
    await assert.rejects(resize(image, 2 ** 19, below, { preallocation: 'full' }), {
      code: 'invalid',
      message,
    });
    const backing = { name: 'below', format: 'raw' };
    const options = { size: 2 ** 20, backing, preallocation: 'metadata' } as const;
    await assert.rejects(createQcow2(new MemoryDevice(), options), {
      code: 'invalid',
      message: 'Backing file and preallocation can only be used at the same time if extended_l2 is on',
    });
  });

  test('takes from the host what it says: tables only, or all of the disk', async () => {
    await using folder = await temporaryFolder();
    for (const preallocation of MODES) {
      const path = folder.file(preallocation);
      {
        await using file = await createFile(path);
        await createQcow2(file, { size: 2 ** 22, preallocation });
      }
      await using file = await openFile(path, { access: 'read' });
      const spent = (await file.allocated()) ?? 0;
      if (preallocation === 'metadata') assert.ok(spent < 2 ** 20, `${spent}`);
      else assert.ok(spent >= 2 ** 22, `${spent}`);
      const { corruptions, leaks, allocatedClusters } = await checkImage(file);
      assert.deepEqual([corruptions, leaks, allocatedClusters], [0, 0, 64]);
    }
  });
});
