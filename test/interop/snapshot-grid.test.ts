/** Internal snapshots with writes between them, over versions, cluster sizes, refcount widths and features, in both directions. */
import assert from 'node:assert/strict';
import { copyFile, readFile, truncate } from 'node:fs/promises';
import { test } from 'node:test';
import { qemuImg, qemuIo, requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { img, imgServe } from '../img.ts';

interface Kind {
  readonly compat: string;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly feature?: 'extended_l2' | 'lazy_refcounts';
}

const kinds: readonly Kind[] = [
  { compat: '0.10', clusterSize: 512, refcountBits: 16 },
  { compat: '1.1', clusterSize: 512, refcountBits: 64 },
  { compat: '1.1', clusterSize: 4096, refcountBits: 32 },
  { compat: '1.1', clusterSize: 4096, refcountBits: 16, feature: 'lazy_refcounts' },
  { compat: '0.10', clusterSize: 65_536, refcountBits: 16 },
  { compat: '1.1', clusterSize: 65_536, refcountBits: 8 },
  { compat: '1.1', clusterSize: 65_536, refcountBits: 16, feature: 'extended_l2' },
  { compat: '1.1', clusterSize: 65_536, refcountBits: 16, feature: 'lazy_refcounts' },
  { compat: '1.1', clusterSize: 2 ** 21, refcountBits: 16 },
  { compat: '1.1', clusterSize: 2 ** 21, refcountBits: 64, feature: 'extended_l2' },
];

const nameOf = ({ compat, clusterSize, refcountBits, feature }: Kind): string =>
  `compat ${compat}, clusters of ${clusterSize}, refcounts of ${refcountBits} bits${feature ? `, ${feature}` : ''}`;

const optionsOf = ({
  compat,
  clusterSize,
  refcountBits,
  feature,
}: Kind): Record<string, string | number> => ({
  compat,
  cluster_size: clusterSize,
  refcount_bits: refcountBits,
  ...(feature !== undefined && { [feature]: 'on' }),
});

const listed = (options: Readonly<Record<string, string | number>>): string =>
  Object.entries(options)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');

const SIZE = 12 * 2 ** 20;
const GROWN = 13 * 2 ** 20 + 512;

/** What is written before the first snapshot, between the two, and after the second. */
const ROUNDS = [
  ['write -P 4 1000k 1300k', 'write -z 4M 1M', 'write -P 5 6M 1M'],
  ['write -P 6 1200k 100k', 'write -z 2M 200k', 'write -P 7 4100k 64k', 'discard 6M 512k'],
  ['write -P 8 1k 3M', 'write -P 9 6200k 4k', 'write -P 11 9M 64k', 'discard 4M 1M', 'write -P 10 7M 1M'],
] as const;

/** All that both tell of an image, which must be the same. */
async function assertToldAlike(path: string): Promise<void> {
  for (const line of [
    ['check', '--output=json', path],
    ['map', '--output=json', path],
    ['info', '--output=json', path],
    ['info', path],
    ['snapshot', '-l', path],
  ])
    assert.equal(await img.ok(...line), await qemuImg.ok(...line), line.join(' '));
}

async function bytesOfSnapshot(
  tool: Pick<typeof img, 'ok'>,
  folder: TemporaryFolder,
  path: string,
  name: string,
): Promise<Buffer> {
  const flat = folder.file(`${name}.flat`);
  await tool.ok('convert', '-l', name, '-f', 'qcow2', '-O', 'raw', path, flat);
  return await readFile(flat);
}

for (const kind of kinds) {
  test(
    `snapshots that QEMU makes, img reads, tells, applies and deletes alike: ${nameOf(kind)}`,
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const [base, top] = [folder.file('base.qcow2'), folder.file('top.qcow2')];
      await qemuImg.create(base, SIZE);
      await qemuIo(base, ['write -P 1 0 12M']);
      const backing = { name: base, format: 'qcow2' };
      await qemuImg.create(top, SIZE, { backing, options: optionsOf(kind) });
      await qemuIo(top, [...ROUNDS[0], 'write -c -P 3 8M 2M']);
      await qemuImg.ok('snapshot', '-c', 'one', top);
      // Version 2 has no place for a snapshot's own size.
      if (kind.compat !== '0.10') await qemuImg.ok('resize', '-f', 'qcow2', top, `${GROWN}`);
      await qemuIo(top, [...ROUNDS[1], 'write -c -P 3 10M 2M']);
      await qemuImg.ok('snapshot', '-c', 'two', top);
      await qemuIo(top, ROUNDS[2]);
      await assertToldAlike(top);
      for (const name of ['one', 'two']) {
        const theirs = await bytesOfSnapshot(qemuImg, folder, top, name);
        assert.ok(theirs.equals(await bytesOfSnapshot(img, folder, top, name)), name);
      }
      const twin = folder.file('twin.qcow2');
      await copyFile(top, twin);
      for (const [action, name] of [
        ['-a', 'one'],
        ['-d', 'two'],
      ] as const) {
        await img.ok('snapshot', action, name, top);
        await qemuImg.ok('snapshot', action, name, twin);
        assert.equal((await qemuImg.check(top)).status, 0, `${action} ${name}`);
        assert.equal(await img.ok('snapshot', '-l', top), await qemuImg.ok('snapshot', '-l', twin));
        await qemuImg.compare(top, 'qcow2', twin, 'qcow2');
      }
    },
  );

  test(
    `snapshots that img makes, qemu-img finds clean and equal: ${nameOf(kind)}`,
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const [raw, top] = [folder.file('disk.raw'), folder.file('top.qcow2')];
      await qemuImg.create(raw, SIZE, { format: 'raw' });
      await qemuIo(raw, ['write -P 1 0 2M', 'write -P 2 5M 2M', 'write -P 3 10M 1M'], 'raw');
      await img.ok('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', listed(optionsOf(kind)), raw, top);
      const kept: Buffer[] = [];
      for (const [round, commands] of ROUNDS.entries()) {
        // A discarded range need not read as zeros; zeros that are written must.
        const alike = commands.map((command) => command.replace(/^discard/, 'write -z -u'));
        await qemuIo(raw, alike, 'raw');
        const server = await imgServe(folder.file(`${round}.sock`), ['-f', 'qcow2', top]);
        await qemuIo(server.uri, alike, 'raw');
        assert.equal(await server.stop(), 0);
        if (round === 2) break;
        kept.push(await readFile(raw));
        await img.ok('snapshot', '-c', ['one', 'two'][round] as string, top);
        assert.equal((await qemuImg.check(top)).status, 0);
        if (round === 0 && kind.compat !== '0.10') {
          await img.ok('resize', '-f', 'qcow2', top, `${GROWN}`);
          await truncate(raw, GROWN);
        }
      }
      await assertToldAlike(top);
      await qemuImg.compare(raw, 'raw', top, 'qcow2');
      const after = folder.file('after.qcow2');
      for (const [index, name] of ['one', 'two'].entries()) {
        const expected = kept[index] as Buffer;
        // Read without being applied, a snapshot is as long as the disk is now.
        const long = Buffer.alloc((await readFile(raw)).length);
        expected.copy(long);
        assert.ok(long.equals(await bytesOfSnapshot(qemuImg, folder, top, name)), name);
        assert.ok(long.equals(await bytesOfSnapshot(img, folder, top, name)), name);
        for (const tool of [qemuImg, img]) {
          await copyFile(top, after);
          await tool.ok('snapshot', '-a', name, after);
          assert.equal((await qemuImg.check(after)).status, 0);
          const flat = folder.file('after.flat');
          await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', after, flat);
          assert.ok(expected.equals(await readFile(flat)), `${name} applied`);
        }
      }
      for (const name of ['one', 'two']) {
        await img.ok('snapshot', '-d', name, top);
        assert.equal((await qemuImg.check(top)).status, 0);
        await qemuImg.compare(raw, 'raw', top, 'qcow2');
      }
    },
  );
}

test(
  'refcounts of one bit have no room for a snapshot, and an image with a data file has none: it is left as it is',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    for (const options of [{ refcount_bits: 1 }, { data_file: folder.file('data') }]) {
      const path = folder.file('image.qcow2');
      await qemuImg.create(path, SIZE, { options });
      await qemuIo(path, ROUNDS[0]);
      const before = await readFile(path);
      const { status, stderr } = await img.run('snapshot', '-c', 'one', path);
      assert.ok(before.equals(await readFile(path)));
      const theirs = await qemuImg.run('snapshot', '-c', 'one', path);
      assert.deepEqual([status, stderr.replace(/^img/, 'qemu-img')], [theirs.status, theirs.stderr]);
    }
  },
);
