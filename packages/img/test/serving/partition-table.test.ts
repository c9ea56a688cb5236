import assert from 'node:assert/strict';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { checkedDevice, MemoryDevice, openFile } from '@strata/block';
import { nbdkit, requires, runOk, temporaryFolder } from '@strata/testkit';
import { findPartition } from '../../src/serving/partition-table.ts';
import { serveImg } from '../run-img.ts';

const tools = requires('nbdkit', 'nbdcopy', 'nbdinfo');

for (const [type, sizes] of [
  ['mbr', [1, 2, 3]],
  ['mbr', [1, 2, 3, 4, 5, 6]],
  ['gpt', [1, 2, 3, 4, 5, 6]],
] as const) {
  test(
    `each of ${sizes.length} partitions of ${type} is served as nbdkit's partition filter does`,
    tools,
    async () => {
      await using folder = await temporaryFolder();
      for (const size of sizes) {
        writeFileSync(folder.file(`p${size}`), Buffer.alloc(size * 100_000, `partition ${size} `));
        truncateSync(folder.file(`p${size}`), size * 102_400);
      }
      const disk = folder.file('disk');
      {
        const files = sizes.map((size) => folder.file(`p${size}`));
        await using _made = await nbdkit(folder.file('s'), [
          'partitioning',
          ...files,
          `partition-type=${type}`,
        ]);
        await runOk('nbdcopy', [`nbd+unix:///?socket=${folder.file('s')}`, disk]);
      }
      // Of a logical partition nbdkit numbers the same: from 5 on, in the order of the chain.
      const numbers = sizes.map((_, index) =>
        type === 'mbr' && sizes.length > 4 && index >= 3 ? index + 2 : index + 1,
      );
      for (const number of numbers) {
        const [theirs, ours] = [folder.file(`theirs${number}`), folder.file(`ours${number}`)];
        const socket = folder.file(`k${number}`);
        const filter = ['-r', '--filter=partition', 'file', disk, `partition=${number}`];
        await using _filter = await nbdkit(socket, filter);
        await runOk('nbdcopy', [`nbd+unix:///?socket=${socket}`, theirs]);
        await using server = await serveImg(
          '-k',
          folder.file(`i${number}`),
          '-r',
          '-f',
          'raw',
          '-P',
          String(number),
          disk,
        );
        await runOk('nbdcopy', [server.uris[0] ?? '', ours]);
        assert.ok(readFileSync(theirs).length > 0);
        assert.ok(readFileSync(ours).equals(readFileSync(theirs)), `partition ${number}`);
      }
      const file = await openFile(disk, { access: 'read' });
      await using source = file;
      await assert.rejects(findPartition(source, 17), /Could not find partition 17/);
    },
  );
}

test(
  'GPT is found by its second header where the first is damaged',
  requires('nbdkit', 'nbdcopy'),
  async () => {
    await using folder = await temporaryFolder();
    writeFileSync(folder.file('p'), Buffer.alloc(300 * 512, 7));
    const disk = folder.file('disk');
    {
      await using _made = await nbdkit(folder.file('s'), [
        'partitioning',
        folder.file('p'),
        'partition-type=gpt',
      ]);
      await runOk('nbdcopy', [`nbd+unix:///?socket=${folder.file('s')}`, disk]);
    }
    const bytes = readFileSync(disk);
    const found = await findPartition(checkedDevice(new MemoryDevice(bytes.length)), 1).catch(
      () => undefined,
    );
    assert.equal(found, undefined);
    const device = checkedDevice(new MemoryDevice(bytes.length));
    await device.write(bytes, 0);
    const whole = await findPartition(device, 1);
    await device.write(Buffer.from([0xff]), 512 + 20);
    assert.deepEqual(await findPartition(device, 1), whole);
    await device.write(Buffer.from([0xff]), bytes.length - 512 + 20);
    await assert.rejects(findPartition(device, 1), /Could not find partition 1/);
  },
);

/** A disk of 64 KiB whose boot record has these entries: type, first sector, sectors. */
async function mbrDisk(entries: readonly (readonly [number, number, number])[], at = 0, disk = newDisk()) {
  const record = Buffer.alloc(512);
  for (const [index, [type, start, count]] of entries.entries()) {
    record.writeUInt8(type, 446 + 16 * index + 4);
    record.writeUInt32LE(start, 446 + 16 * index + 8);
    record.writeUInt32LE(count, 446 + 16 * index + 12);
  }
  record.writeUInt16LE(0xaa55, 510);
  await disk.write(record, at * 512);
  return disk;
}

const newDisk = () => checkedDevice(new MemoryDevice(64 * 1024));

test('a partition that reaches past the end of the disk is refused', async () => {
  const disk = await mbrDisk([
    [0x83, 8, 120],
    [0x83, 8, 121],
    [0x83, 0xffff_ffff, 0xffff_ffff],
  ]);
  assert.deepEqual(await findPartition(disk, 1), { start: 4096, size: 120 * 512 });
  await assert.rejects(findPartition(disk, 2), { code: 'corrupt' });
  await assert.rejects(findPartition(disk, 3), { code: 'corrupt' });
  await assert.rejects(findPartition(disk, 4), { code: 'not-found' });
});

test('a chain of logical partitions that is a loop ends', async () => {
  const disk = await mbrDisk([[0x05, 8, 100]]);
  await mbrDisk(
    [
      [0x83, 1, 4],
      [0x05, 8, 8],
    ],
    8,
    disk,
  );
  await mbrDisk(
    [
      [0x83, 1, 4],
      [0x05, 8, 8],
    ],
    16,
    disk,
  );
  assert.deepEqual(await findPartition(disk, 5), { start: 9 * 512, size: 4 * 512 });
  assert.deepEqual(await findPartition(disk, 6), { start: 17 * 512, size: 4 * 512 });
  await assert.rejects(findPartition(disk, 1000), { code: 'not-found' });
});

test('a table of four gigabytes of entries is not read', async () => {
  const disk = newDisk();
  const { crc32 } = await import('node:zlib');
  const header = Buffer.alloc(512);
  header.write('EFI PART', 0, 'latin1');
  header.writeUInt32LE(92, 12);
  header.writeBigUInt64LE(2n ** 63n, 72);
  header.writeUInt32LE(0xffff_ffff, 80);
  header.writeUInt32LE(0xffff_fff8, 84);
  header.writeUInt32LE(crc32(header.subarray(0, 92)), 16);
  await disk.write(header, 512);
  await assert.rejects(findPartition(disk, 1), { code: 'not-found' });
});
