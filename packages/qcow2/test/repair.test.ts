import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { isDiskError, MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, run, temporaryFolder } from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { readHeader } from '../src/header.ts';
import { type RepairReport, repairImage } from '../src/repair.ts';
import { damage, makeSubjects, targetsOf } from './damaged-images.ts';
import { openHost } from './host.ts';
import { seeded } from './random.ts';
import { type Poke, poke } from './refusals.ts';

const COUNTS = [
  'corruptions-fixed',
  'leaks-fixed',
  'check-errors',
  'corruptions',
  'leaks',
  'allocated-clusters',
  'fragmented-clusters',
  'compressed-clusters',
] as const;

interface Outcome {
  readonly status: number;
  readonly counts: readonly number[];
}

/** qemu-img's repair: the exit status is that of the check after it. */
async function theirRepair(path: string, scope: string): Promise<Outcome & { readonly told: string }> {
  const line = ['check', '-f', 'qcow2', '-r', scope, '--output=json', path];
  const { status, stdout, stderr } = await run('qemu-img', line);
  const report = stdout === '' ? {} : (JSON.parse(stdout) as Record<string, number>);
  return { status: status ?? -1, counts: COUNTS.map((key) => report[key] ?? 0), told: stderr };
}

async function ourRepair(path: string, scope: 'leaks' | 'all'): Promise<Outcome> {
  await using file = await openHost(path);
  let first: RepairReport;
  try {
    first = await repairImage(file, scope);
  } catch (error) {
    assert.ok(isDiskError(error), String((error as Error).stack));
    return { status: 1, counts: [] };
  }
  if (first.failed !== undefined) return { status: 1, counts: [] };
  const { corruptionsFixed, leaksFixed } = first;
  const then = corruptionsFixed + leaksFixed > 0 ? await checkImage(file) : first;
  if (then.failed !== undefined) return { status: 1, counts: [] };
  const { checkErrors, corruptions, leaks, allocatedClusters, fragmentedClusters, compressedClusters } = then;
  const status = checkErrors > 0 ? 1 : corruptions > 0 ? 2 : leaks > 0 ? 3 : 0;
  const faults = [corruptionsFixed, leaksFixed, checkErrors, corruptions, leaks];
  return { status, counts: [...faults, allocatedClusters, fragmentedClusters, compressedClusters] };
}

/**
 * True where we go further than QEMU on purpose, and the counts differ: also where a table that lies on the
 * guest's data would be mended over it.
 */
const goesFurther = (told: string): boolean =>
  /outside image|Marking image as corrupt|exceeding the end.*Rebuilding/s.test(told) ||
  /Table is not cluster aligned.*Repairing .*L2 entry corrupted/s.test(told);

test(
  'a damaged image is repaired as qemu-img repairs it, and its guest sees the same',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const seen = new Map<string, number>();
    for (const [name, path] of await makeSubjects(folder)) {
      const targets = await targetsOf(path);
      const seeds = Number(process.env['REPAIR_SEEDS'] ?? 12);
      for (let seed = 1000; seed < 1000 + seeds; seed++) {
        const [theirs, ours] = [folder.file('theirs.qcow2'), folder.file('ours.qcow2')];
        await copyFile(path, theirs);
        const scope = seed % 4 === 0 ? 'leaks' : 'all';
        const told = `${name}, seed ${seed}, -r ${scope}: ${await damage(theirs, targets, seeded(seed))}`;
        await copyFile(theirs, ours);
        const expected = await theirRepair(theirs, scope);
        if (/Could not open backing file|Bitmap extra data/.test(expected.told)) continue;
        const found = await ourRepair(ours, scope);
        if (expected.status !== 1) {
          const isSame = found.status === expected.status;
          const isBetter = found.status === 0 && goesFurther(expected.told);
          assert.ok(isSame || isBetter, `${told}: ${found.status}\n${expected.told}`);
          if (!goesFurther(expected.told)) assert.deepEqual(found.counts, expected.counts, told);
        }
        seen.set(`${scope} ${expected.status}`, (seen.get(`${scope} ${expected.status}`) ?? 0) + 1);
        await assertSettled(ours, scope, told);
        if (found.status !== 0 || expected.status !== 0) continue;
        const compared = await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', theirs, ours]);
        // Above 1: an entry is left that neither of them can read.
        assert.ok(compared.status !== 1, `${told}\n${compared.stdout}${compared.stderr}`);
        assert.equal((await run('qemu-img', ['check', '-f', 'qcow2', ours])).status, 0, told);
      }
    }
    assert.ok((seen.get('all 0') ?? 0) > 20 && (seen.get('leaks 2') ?? 0) > 3, JSON.stringify([...seen]));
  },
);

/** A second repair finds nothing that it could repair, and changes no byte. */
async function assertSettled(path: string, scope: 'leaks' | 'all', told: string): Promise<void> {
  const before = await readFile(path);
  await using file = await openHost(path);
  try {
    const { corruptionsFixed, leaksFixed } = await repairImage(file, scope);
    assert.deepEqual([corruptionsFixed, leaksFixed], [0, 0], told);
  } catch (error) {
    assert.ok(isDiskError(error), String((error as Error).stack));
  }
  assert.ok(before.equals(await readFile(path)), `${told}: the second repair changed something`);
}

/** An image with four clusters of data: header, table, block, L1, L2 in clusters 0 to 4, data from 5 on. */
async function small(path: string): Promise<void> {
  await qemuImg.create(path, '1M', {});
  await qemuIo(path, ['write -P 5 0 256k']);
}

async function repairedAfter(path: string, ...pokes: readonly Poke[]): Promise<RepairReport> {
  await small(path);
  await poke(path, ...pokes);
  await using file = await openHost(path);
  return await repairImage(file, 'all');
}

/** Where the refcount table and its first block are. */
async function refcountPlaces(path: string): Promise<readonly number[]> {
  await using file = await openHost(path);
  const { refcountTableAt } = await readHeader(file);
  const table = Buffer.alloc(8);
  await file.read(table, refcountTableAt);
  return [refcountTableAt, Number(table.readBigUInt64BE(0))];
}

test('a refcount block that QEMU cannot replace is made anew', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  for (const [title, ...pokes] of [
    ['unaligned', [0x10000, '0000000000020200']],
    ['past 2^63', [0x10000, 'f000000000000000']],
    ['behind the end', [0x10000, '0000100000000000']],
    ['on the L2 table', [0x10000, '0000000000040000']],
    ['table on the L1 table', [48, '0000000000030000']],
    ['no table', [56, '00000000']],
  ] as const) {
    const report = await repairedAfter(path, ...pokes);
    assert.ok(report.corruptionsFixed > 0, title);
    const { status, stdout, stderr } = await run('qemu-img', ['check', path]);
    assert.equal(status, 0, `${title}: ${stdout}${stderr}`);
    await qemuIo(path, ['read -P 5 0 256k', 'write -P 6 256k 512k', 'read -P 5 0 256k']);
  }
});

test(
  'the new structure does not lie where something behind the end of the file is referred to',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    // The file ends after cluster 8; the first entry refers to cluster 10, and no refcount block is left.
    await repairedAfter(path, [0x40000, '80000000000a0000'], [0x10000, '0000000000000000']);
    const used = await refcountPlaces(path);
    assert.ok(!used.includes(0xa0000), JSON.stringify(used));
    assert.equal((await run('qemu-img', ['check', path])).status, 0);
    await qemuIo(path, ['read -P 0 0 64k', 'read -P 5 64k 192k', 'write -P 6 0 64k']);
  },
);

test(
  'clusters that a killed writer left behind the end of the file become zeros of a sound image',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    // Dirty; the fourth and fifth entry lead to clusters 10 and 11, two and three behind the end.
    const { corruptions } = await repairedAfter(
      path,
      [79, '01'],
      [0x40018, '80000000000a0000'],
      [0x40020, '80000000000b0000'],
    );
    assert.equal(corruptions, 0);
    const { status, stdout } = await run('qemu-img', ['check', path]);
    assert.equal(status, 0, stdout);
    await qemuIo(path, [
      'read -P 5 0 192k',
      'read -P 0 192k 128k',
      'write -P 7 192k 256k',
      'read -P 5 0 192k',
    ]);
    await using file = await openHost(path);
    assert.equal((await readHeader(file)).incompatible, 0n);
  },
);

test(
  'the corrupt bit goes when nothing is wrong, and stays while something is',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    for (const [reserved, left] of [
      ['00', 0n],
      ['02', 2n],
    ] as const) {
      await repairedAfter(path, [79, '02'], [0x40007, reserved]);
      await using file = await openHost(path);
      assert.equal((await readHeader(file)).incompatible, left);
    }
  },
);

test(
  'an L2 table off its place is mended where nothing else is, and never on data',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const [path, theirs] = [folder.file('image.qcow2'), folder.file('theirs.qcow2')];
    await qemuImg.create(path, '1M', { options: { cluster_size: 4096 } });
    // Clusters 0 to 4 are header, table, block, L1, L2; data follows, its first and last words look like entries.
    await qemuIo(path, ['write -P 0 0 4k', 'write -P 0x80 300k 4k']);
    const entry = '8000000000005000';
    // The table is said to be 512 bytes further on: its last entry but 63 lies in the first cluster of data.
    await poke(path, [0x3000, '8000000000004200'], [0x4208, entry], [0x5008, entry]);
    await copyFile(path, theirs);
    assert.match((await theirRepair(theirs, 'all')).told, /Repairing OFLAG_COPIED data cluster/);
    await using file = await openHost(path);
    const { findings } = await repairImage(file, 'all');
    const told = findings.map(({ text }) => text).filter((text) => text.includes('OFLAG_COPIED data'));
    assert.deepEqual(told, [
      `Repairing OFLAG_COPIED data cluster: l2_entry=${entry} refcount=3`,
      `ERROR OFLAG_COPIED data cluster: l2_entry=${entry} refcount=3`,
    ]);
    const words = Buffer.alloc(16);
    await file.read(words.subarray(0, 8), 0x4208);
    await file.read(words.subarray(8), 0x5008);
    assert.equal(words.toString('hex'), `0000000000005000${entry}`);
  },
);

test(
  'a subcluster that is both data and zeros keeps its data, as in QEMU',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, '1M', { options: { extended_l2: 'on' } });
    await qemuIo(path, ['write -P 5 0 64k']);
    await poke(path, [0x40008, '00000001']);
    const before = await readFile(path);
    assert.equal((await theirRepair(path, 'all')).status, 2);
    assert.ok(before.equals(await readFile(path)));
    assert.deepEqual((await ourRepair(path, 'all')).counts.slice(0, 4), [0, 0, 0, 1]);
    assert.ok(before.equals(await readFile(path)));
  },
);

test(
  'snapshots stay whose table claims more extra data than the file is long',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await small(path);
    await qemuImg.ok('snapshot', '-c', 'one', path);
    await using file = await openHost(path);
    const { snapshotsAt } = await readHeader(file);
    await poke(path, [snapshotsAt + 36, '20000018']);
    // QEMU would write the new table over the old one, and marks the image as corrupt instead.
    assert.equal((await ourRepair(path, 'all')).status, 0);
    assert.equal((await run('qemu-img', ['check', path])).status, 0);
    const { stdout } = await run('qemu-img', ['snapshot', '-l', path]);
    assert.equal(stdout.trim().split('\n').length, 3, stdout);
    assert.ok((await readFile(path)).length < 1024 * 1024, 'nothing is kept free for what is claimed');
  },
);

test(
  'refcounts are not moved where a table of snapshots lies on the header that says where they are',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await small(path);
    // One snapshot, whose entry is the header itself; and no refcount block.
    await poke(path, [60, '000000010000000000000000'], [0x10000, '0000000000000000']);
    const before = await readFile(path);
    assert.equal((await ourRepair(path, 'all')).status, 2);
    assert.ok(before.equals(await readFile(path)));
  },
);

test('bitmaps stay valid', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await small(path);
  await qemuImg.ok('bitmap', '--add', path, 'b');
  await qemuIo(path, ['write 0 1k']);
  await poke(path, [0x20012, '0007']);
  await using file = await openHost(path);
  assert.ok((await repairImage(file, 'all')).leaksFixed > 0);
  const { stdout } = await run('qemu-img', ['info', path]);
  assert.match(stdout, /name: b/);
  assert.doesNotMatch(stdout, /in-use/);
});

test('an image that cannot be read as one is refused and not touched', async () => {
  const file = new MemoryDevice();
  await file.write(new Uint8Array(70_000).fill(1), 0);
  const before = file.bytes();
  await assert.rejects(repairImage(file, 'all'), { code: 'corrupt' });
  assert.ok(Buffer.from(before).equals(file.bytes()));
});
