/** The largest disks and the limits of tables: bounded work, and QEMU's refusals. Files are sparse. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { createQcow2 } from '../src/create.ts';
import { readInfo } from '../src/info.ts';
import { qcow2Format } from '../src/layer.ts';
import { openHost } from './host.ts';

/** The largest multiple of 512 that a number counts exactly. */
const LARGEST = 2 ** 53 - 512;

describe('the largest disk', () => {
  test('is created, grown to, written at its end, shrunk and checked with little memory', async () => {
    const file = new MemoryDevice();
    await createQcow2(file, { size: 2 ** 30, clusterSize: 2 ** 21 });
    const below = new MemoryDevice(LARGEST);
    {
      await using layer = await qcow2Format.open(file);
      await layer.resize(LARGEST, below);
      await layer.write(new Uint8Array(512).fill(7), LARGEST - 512, below);
      assert.equal((await layer.map(LARGEST - 512, 512)).kind, 'raw');
    }
    assert.equal((await readInfo(file)).size, LARGEST);
    const { corruptions, leaks, checkErrors } = await checkImage(file);
    assert.deepEqual([corruptions, leaks, checkErrors], [0, 0, 0]);
    {
      await using layer = await qcow2Format.open(file);
      await layer.resize(2 ** 21, below);
    }
    const again = await checkImage(file);
    assert.deepEqual([again.corruptions, again.leaks, again.checkErrors], [0, 0, 0]);
    assert.ok(file.size < 2 ** 26, `${file.size}`);
  });

  test('of ours is a disk for QEMU', requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('large.qcow2');
    {
      await using file = await openHost(path);
      await createQcow2(file, { size: LARGEST, clusterSize: 2 ** 21 });
    }
    const info = JSON.parse(await qemuImg.ok('info', '--output=json', path)) as Record<string, number>;
    assert.equal(info['virtual-size'], LARGEST);
    assert.equal((await qemuImg.check(path)).status, 0);
  });
});

test('an L1 table of more than 32 MiB is refused, whether a disk is new or grows', async () => {
  const file = new MemoryDevice();
  // 4 Mi entries of an L1 table lead to 64 clusters of 512 bytes each.
  const most = 4 * 2 ** 20 * 64 * 512;
  await assert.rejects(createQcow2(file, { size: most + 512, clusterSize: 512 }), { code: 'limit' });
  await createQcow2(file, { size: 2 ** 20, clusterSize: 512 });
  await using layer = await qcow2Format.open(file);
  const message = 'Failed to grow the L1 table: File too large';
  await assert.rejects(layer.resize(most + 512, new MemoryDevice(most + 512)), { code: 'limit', message });
  await layer.resize(most, new MemoryDevice(most));
  assert.equal(layer.size, most);
});
