import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { qemuImg, qemuIo, requires, run, temporaryFolder } from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { assertAgree } from './check-verdict.ts';
import { damage, makeSubjects, targetsOf } from './damaged-images.ts';
import { createEncrypted, SECRET } from './encrypted-image.ts';
import { counted, openHost } from './host.ts';
import { seeded } from './random.ts';
import { type Poke, poke } from './refusals.ts';

test(
  'a sound image is sound, and its clusters are counted as qemu-img counts them',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    for (const [name, path] of await makeSubjects(folder)) {
      const { status } = await assertAgree(path, name);
      assert.equal(status, 0, name);
    }
  },
);

test(
  'a damaged image gets the verdict, the counts and the lines of qemu-img',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const seen = new Map<string, number>();
    for (const [name, path] of await makeSubjects(folder)) {
      const targets = await targetsOf(path);
      for (let seed = 1; seed <= 40; seed++) {
        const victim = folder.file('victim.qcow2');
        await copyFile(path, victim);
        const told = await damage(victim, targets, seeded(seed));
        const { status } = await assertAgree(victim, `${name}, seed ${seed}: ${told}`);
        seen.set(`${status}`, (seen.get(`${status}`) ?? 0) + 1);
      }
    }
    assert.ok(seen.size === 4, `verdicts: ${JSON.stringify([...seen])}`);
  },
);

/** An image of 64 KiB clusters whose L1 table has `l1Entries` entries, given by `entry`. */
async function imageWithL1(path: string, l1Entries: number, entry: (index: number) => bigint): Promise<void> {
  const reach = 8192 * 65_536;
  await using file = await openHost(path);
  await createQcow2(file, { size: l1Entries * reach });
  const l1 = Buffer.alloc(l1Entries * 8);
  for (let i = 0; i < l1Entries; i++) l1.writeBigUInt64BE(entry(i), i * 8);
  await file.write(l1, (await readHeader(file)).l1At);
}

/** An L2 table with one compressed cluster, one cluster of data and one entry with reserved bits. */
function smallL2(): Buffer {
  const l2 = Buffer.alloc(65_536);
  l2.writeBigUInt64BE((1n << 62n) | 0x70200n, 0);
  l2.writeBigUInt64BE(0x8000_0000_0006_0000n, 8);
  l2.writeBigUInt64BE(0x0000_0000_0006_0002n, 16);
  return l2;
}

test(
  'an L2 table that many L1 entries share is counted as qemu-img counts it',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('shared.qcow2');
    await imageWithL1(path, 100, (index) => (index % 3 === 0 ? 0x8000_0000_0005_0000n : 0n));
    await using file = await openHost(path);
    await file.write(smallL2(), 0x50000);
    await file.write(new Uint8Array(65_536), 0x70000);
    const { status, report } = await assertAgree(path, 'shared');
    assert.deepEqual([status, report['allocated-clusters'], report['compressed-clusters']], [2, 102, 34]);
  },
);

test('an image of 33 MiB that claims 2 PiB with one L2 table is checked by reading each table a few times', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('bomb.qcow2');
  const entries = 4096 * 1024;
  await imageWithL1(path, entries, () => 0x8000_0000_0210_0000n);
  await using file = await openHost(path);
  await file.write(smallL2(), 0x210_0000);
  const watched = counted(file);
  const report = await checkImage(watched);
  assert.ok(watched.bytesRead < 4 * file.size, `${watched.bytesRead} bytes`);
  assert.equal(report.allocatedClusters, 3 * entries);
  assert.equal(report.compressedClusters, entries);
  assert.ok(report.corruptions > entries);
  assert.equal(report.findings.length + report.findingsOmitted, report.corruptions + report.leaks);
});

test('L2 tables that overlap without end are beyond the limit', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('overlap.qcow2');
  await imageWithL1(path, 8192, (index) => 0x8000_0000_0001_0000n + BigInt(index) * 512n);
  await using file = await openHost(path);
  await file.truncate(8 * 2 ** 20);
  const watched = counted(file);
  await assert.rejects(checkImage(watched), { code: 'limit', message: /^tables overlap/ });
  assert.ok(watched.bytesRead <= 4 * file.size + 65 * 2 ** 20);
});

test('findings beyond those listed are counted exactly', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('leaks.qcow2');
  await using file = await openHost(path);
  await createQcow2(file, { size: 2 ** 20, clusterSize: 512, refcountBits: 1 });
  const table = Buffer.alloc(512);
  for (let i = 1; i <= 40; i++) table.writeBigUInt64BE(BigInt(2 ** 20 + i * 512), i * 8);
  await file.write(table.subarray(8), 512 + 8);
  for (let i = 1; i <= 40; i++) await file.write(new Uint8Array(512).fill(0xff), 2 ** 20 + i * 512);
  await file.truncate(100 * 2 ** 20);
  await assertAgree(path, 'leaks');
  const report = await checkImage(file);
  assert.ok(report.leaks > 150_000 && report.findingsOmitted > 0);
  assert.equal(report.findings.length, 100_000);
});

// The pokes of QEMU's iotest 080 that a header does not show, on an image of 64 MiB with one snapshot.
const POKED: readonly (readonly [what: string, poke: Poke, line: RegExp])[] = [
  ['L2 entry with reserved bits', [0x40000, 'bfffffffffff0000'], /l2 entry with reserved bits set: bfffff/],
  ['L2 entry far behind the file', [0x40000, '800000ffffff0000'], /exceeding the end of the file/],
  [
    'unaligned L1 table of a snapshot',
    [0x70000, '0000000000400200'],
    /\(test\) l1_offset=0x400200: L1 table is/,
  ],
  [
    'huge L1 table of a snapshot',
    [0x70008, '10000000'],
    /\(test\) l1_size=0x10000000: L1 table is too large/,
  ],
];

test(
  'entries that point anywhere are findings, and the check goes on',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    for (const [what, bytes, line] of POKED) {
      await qemuImg.create(path, '64M');
      await qemuIo(path, ['write 0 512']);
      await qemuImg.ok('snapshot', '-c', 'test', path);
      await poke(path, bytes);
      const { status, lines } = await assertAgree(path, what);
      assert.equal(status, 2, what);
      assert.ok(
        lines?.some((text) => line.test(text)),
        `${what}: ${lines?.join('; ')}`,
      );
    }
  },
);

test(
  'a snapshot table of 65,536 entries behind the end of the file is read as QEMU reads it',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, '64M');
    await poke(path, [64, '0000000001000000'], [60, '00010000']);
    const { status } = await assertAgree(path, '65,536 empty snapshots');
    assert.equal(status, 2);
  },
);

test('an encrypted image is checked without its key', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  for (const format of ['aes', 'luks'] as const) {
    const path = folder.file(`${format}.qcow2`);
    await createEncrypted(path, format);
    const image = `driver=qcow2,encrypt.key-secret=s,file.filename=${path}`;
    await run('qemu-io', [...SECRET, '--image-opts', '-c', 'write 64k 200k', image]);
    const told = await run('qemu-img', ['check', ...SECRET, '--output=json', '--image-opts', image]);
    const theirs = JSON.parse(told.stdout) as Record<string, number>;
    await using file = await openHost(path);
    const ours = await checkImage(file);
    assert.equal(ours.allocatedClusters, 4);
    assert.deepEqual(
      [ours.corruptions, ours.leaks, ours.imageEndOffset, ours.allocatedClusters],
      [0, 0, theirs['image-end-offset'], theirs['allocated-clusters']],
    );
  }
});

test('a check can be aborted', async () => {
  await using folder = await temporaryFolder();
  await using file = await openHost(folder.file('image.qcow2'));
  await createQcow2(file, { size: 2 ** 20 });
  await assert.rejects(checkImage(file, { signal: AbortSignal.abort() }), { code: 'aborted' });
});

test('a check reads and never writes', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await imageWithL1(path, 10, () => 0x8000_0000_0001_0000n);
  const before = await readFile(path);
  await using file = await openHost(path);
  assert.ok((await checkImage(file)).corruptions > 0);
  assert.ok((await readFile(path)).equals(before));
});
