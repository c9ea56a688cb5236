import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { MemoryDevice, openFile } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { bitmapsSize, measureQcow2 } from '../src/measure.ts';

/** What qemu-img says. */
async function theirs(options: string, ...args: readonly string[]) {
  const text = await qemuImg.ok('measure', '-O', 'qcow2', '--output=json', '-o', options, ...args);
  const { required, 'fully-allocated': fullyAllocated, bitmaps } = JSON.parse(text) as Record<string, number>;
  return { required, fullyAllocated, bitmaps };
}

describe('a measure', () => {
  test("of a new disk is qemu-img's, over sizes, clusters and refcounts", requires('qemu-img'), async () => {
    for (const size of [0, 512, 3 * 2 ** 20 + 512, 2 ** 33, 2 ** 36 + 2 ** 20]) {
      for (const clusterSize of [512, 4096, 65_536, 2 ** 21]) {
        for (const refcountBits of [1, 16, 64]) {
          const options = `cluster_size=${clusterSize},refcount_bits=${refcountBits}`;
          const expected = await theirs(options, '--size', String(size));
          const found = await measureQcow2(size, { clusterSize, refcountBits });
          assert.deepEqual({ ...found, bitmaps: undefined }, expected, `${size} ${options}`);
        }
      }
    }
  });

  test('of the largest disks is bounded work and exact', async () => {
    // 2^53 bytes in clusters of 2 MiB: 4 Gi clusters, 16 Ki L2 tables of a cluster, 128 KiB of L1 table.
    const { fullyAllocated } = await measureQcow2(2 ** 52, { clusterSize: 2 ** 21 });
    assert.ok(fullyAllocated > 2 ** 52 && Number.isSafeInteger(fullyAllocated));
    await assert.rejects(measureQcow2(2 ** 53 - 512, { clusterSize: 2 ** 21 }), { code: 'limit' });
    await assert.rejects(measureQcow2(2 ** 52), { code: 'limit' });
  });

  test('counts the clusters that a copy would fill, each once', requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('disk.raw');
    const bytes = new Uint8Array(2 ** 21);
    for (const at of [5000, 70_000, 131_071, 131_072, 1_500_000]) bytes.fill(1, at, at + 300);
    await writeFile(path, '');
    const memory = new MemoryDevice(2 ** 21);
    for (const at of [5000, 70_000, 1_500_000]) await memory.write(bytes.subarray(at, at + 300), at);
    {
      await using file = await openFile(path, { access: 'write' });
      await file.truncate(2 ** 21);
      for (const at of [5000, 70_000, 1_500_000]) await file.write(bytes.subarray(at, at + 300), at);
    }
    await using file = await openFile(path, { access: 'read' });
    for (const clusterSize of [512, 4096, 65_536]) {
      const expected = await theirs(`cluster_size=${clusterSize}`, '-f', 'raw', path);
      const found = await measureQcow2(file, { clusterSize });
      assert.deepEqual({ ...found, bitmaps: undefined }, expected, `${clusterSize}`);
    }
    const { required, fullyAllocated } = await measureQcow2(memory, { hasBacking: true });
    assert.equal(required, fullyAllocated);
  });

  test('of an encrypted image has room for its keys', requires('qemu-img'), async () => {
    const secret = ['--object', 'secret,id=s,data=x'];
    for (const [alg, cluster] of [
      ['aes-256', 65_536],
      ['aes-128', 512],
    ] as const) {
      const options = `cluster_size=${cluster},encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=${alg}`;
      const expected = await theirs(options, ...secret, '--size', '1G');
      const encryption = { cipherAlg: alg };
      const found = await measureQcow2(2 ** 30, { clusterSize: cluster, encryption });
      assert.deepEqual({ ...found, bitmaps: undefined }, expected, options);
    }
  });

  test("of bitmaps is qemu-img's", requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, '3G');
    const bitmaps = [
      { name: 'b0', granularity: 65_536 },
      { name: 'a bitmap with a long name', granularity: 512 },
    ];
    for (const { name, granularity } of bitmaps)
      await qemuImg.ok('bitmap', '--add', '-g', String(granularity), path, name);
    for (const clusterSize of [512, 65_536]) {
      const expected = await theirs(`cluster_size=${clusterSize}`, path);
      assert.equal(bitmapsSize(bitmaps, 3 * 2 ** 30, clusterSize), expected.bitmaps);
    }
  });
});
