/** Versions, cluster sizes, refcount widths and features, in both directions, through the command. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { qemuImg, qemuIo, requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { img } from '../img.ts';

interface Kind {
  readonly compat: string;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly feature?: 'extended_l2' | 'data_file' | 'data_file_raw' | 'lazy_refcounts';
}

const kinds: readonly Kind[] = [512, 4096, 65_536, 2 ** 21].flatMap((clusterSize): readonly Kind[] => [
  { compat: '0.10', clusterSize, refcountBits: 16 },
  ...[1, 8, 16, 64].map((refcountBits) => ({ compat: '1.1', clusterSize, refcountBits })),
  ...(['extended_l2', 'data_file', 'data_file_raw', 'lazy_refcounts'] as const)
    .filter((feature) => feature !== 'extended_l2' || clusterSize > 4096)
    .map((feature) => ({ compat: '1.1', clusterSize, refcountBits: 16, feature })),
]);

const nameOf = ({ compat, clusterSize, refcountBits, feature }: Kind): string =>
  `compat ${compat}, clusters of ${clusterSize}, refcounts of ${refcountBits} bits${feature ? `, ${feature}` : ''}`;

/** @param data the name of the data file, for an image that has one; with a backing file it cannot be raw */
function optionsOf(
  { compat, clusterSize, refcountBits, feature }: Kind,
  data: string,
  { backed }: { readonly backed: boolean },
): Record<string, string | number> {
  const plain = { compat, cluster_size: clusterSize, refcount_bits: refcountBits };
  if (feature === undefined) return plain;
  if (!feature.startsWith('data_file')) return { ...plain, [feature]: 'on' };
  const isRaw = feature === 'data_file_raw' && !backed;
  return { ...plain, data_file: data, ...(isRaw && { data_file_raw: 'on' }) };
}

/** An overlay and its base with data, zeros, compressed and dropped clusters in both, made by QEMU. */
async function madeByQemu(folder: TemporaryFolder, kind: Kind): Promise<string> {
  const base = folder.file('base.qcow2');
  const top = folder.file('top.qcow2');
  await qemuImg.create(base, 20 * 2 ** 20 + 512, {
    options: optionsOf(kind, folder.file('base.data'), { backed: false }),
  });
  await qemuIo(base, [
    'write -P 1 0 3M',
    'write -z 4M 2M',
    'write -P 2 8M 2M',
    'write -z 8M 2M',
    'write -P 3 19M 1M',
  ]);
  await qemuImg.create(top, 22 * 2 ** 20, {
    backing: { name: base, format: 'qcow2' },
    options: optionsOf(kind, folder.file('top.data'), { backed: true }),
  });
  const hasDataFile = kind.feature?.startsWith('data_file') === true;
  await qemuIo(top, [
    'write -P 4 1000k 1300k',
    'write -z -u 2M 2M',
    hasDataFile ? 'write -P 5 10M 2M' : 'write -c -P 5 10M 2M',
    'write -P 6 12M 2M',
    'discard 12M 2M',
    'write -P 7 21M 512',
  ]);
  return top;
}

for (const kind of kinds) {
  test(
    `what QEMU writes, img reads, maps and checks alike: ${nameOf(kind)}`,
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const top = await madeByQemu(folder, kind);
      assert.equal(await img.ok('map', '--output=json', top), await qemuImg.mapText(top));
      assert.equal(
        await img.ok('check', '--output=json', top),
        await qemuImg.ok('check', '--output=json', top),
      );
      await img.ok('convert', '-f', 'qcow2', '-O', 'raw', top, folder.file('flat.raw'));
      await qemuImg.compare(folder.file('flat.raw'), 'raw', top, 'qcow2');
    },
  );

  test(
    `what img writes, qemu-img finds clean and equal: ${nameOf(kind)}`,
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const source = await madeByQemu(folder, kind);
      const data = folder.file('copy.data');
      const options = Object.entries(optionsOf(kind, data, { backed: false }))
        .map(([name, value]) => `${name}=${value}`)
        .join(',');
      const copy = folder.file('copy.qcow2');
      await img.ok('convert', '-f', 'qcow2', '-O', 'qcow2', '-o', options, source, copy);
      assert.equal((await qemuImg.check(copy)).status, 0);
      await qemuImg.compare(copy, 'qcow2', source, 'qcow2');

      if (kind.feature === 'data_file_raw') await qemuImg.compare(data, 'raw', source, 'qcow2');

      await img.ok('commit', '-f', 'qcow2', source);
      for (const name of ['top.qcow2', 'base.qcow2']) {
        const { status, stderr } = await qemuImg.check(folder.file(name));
        assert.equal(status, 0, `${name}: ${stderr}`);
      }
      await qemuImg.compare(copy, 'qcow2', source, 'qcow2');
      await qemuImg.compare(copy, 'qcow2', folder.file('base.qcow2'), 'qcow2');
      if (kind.feature === 'data_file_raw')
        await qemuImg.compare(folder.file('base.data'), 'raw', source, 'qcow2');
    },
  );
}
