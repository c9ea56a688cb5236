/** Images with everything in them that a check looks at, and ways to damage them. */
import { open } from 'node:fs/promises';
import { qemuImg, qemuIo, type TemporaryFolder } from '@strata/testkit';
import { listBitmaps } from '../src/bitmaps.ts';
import { readHeader } from '../src/header.ts';
import { listSnapshots } from '../src/snapshots.ts';
import { readAt } from '../src/table-reader.ts';
import { openHost } from './host.ts';
import type { Random } from './random.ts';

const SUBJECTS: readonly (readonly [name: string, make: (path: string, base: string) => Promise<void>])[] = [
  ['plain, 64k', (path) => write(path, '8M', {}, ['write 0 1M', 'write 4M 64k', 'write -z 2M 256k'])],
  ['512-byte clusters', (path) => write(path, '1M', { cluster_size: 512 }, ['write 0 40k', 'write 900k 3k'])],
  [
    'version 2',
    (path) => write(path, '3M', { compat: '0.10', cluster_size: 4096 }, ['write 1M 100k', 'write 0 4k']),
  ],
  [
    'refcounts of 1 bit',
    (path) => write(path, '1M', { refcount_bits: 1, cluster_size: 4096 }, ['write 0 64k']),
  ],
  [
    'refcounts of 64 bits',
    (path) =>
      write(path, '1M', { refcount_bits: 64, cluster_size: 1024 }, ['write 0 64k', 'write -z 80k 8k']),
  ],
  [
    'overlay with allocated zeros',
    async (path, base) => {
      const backing = { name: base, format: 'qcow2' };
      await qemuImg.create(path, undefined, { backing, options: { cluster_size: 4096 } });
      await qemuIo(path, ['write 0 128k', 'write -z 16k 32k', 'write -z -u 64k 8k', 'discard 96k 16k']);
    },
  ],
  [
    'compressed',
    async (path) => {
      const raw = `${path}.raw`;
      await qemuImg.create(raw, '1M', { format: 'raw' });
      await qemuIo(raw, ['write -P 1 0 300k', 'write -P 2 500k 100k'], 'raw');
      await qemuImg.ok('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=4k', raw, path);
      await qemuIo(path, ['write 8k 8k']);
    },
  ],
  ['snapshots', (path) => withSnapshots(path, {})],
  ['snapshots in version 2', (path) => withSnapshots(path, { compat: '0.10' })],
  [
    'bitmaps',
    async (path) => {
      await write(path, '1M', { cluster_size: 4096 }, ['write 0 64k']);
      await qemuImg.ok('bitmap', '--add', '-g', '512', path, 'fine');
      await qemuIo(path, ['write 64k 64k']);
      await qemuImg.ok('bitmap', '--add', '-g', '64k', path, 'coarse');
    },
  ],
  [
    'external data file',
    (path) =>
      write(path, '1M', { data_file: `${path}.data`, cluster_size: 4096 }, [
        'write 0 100k',
        'write -z 40k 8k',
        'write 500k 8k',
      ]),
  ],
  [
    'extended L2 entries',
    (path) =>
      write(path, '4M', { extended_l2: 'on', cluster_size: 16_384 }, [
        'write 0 1k',
        'write 20k 40k',
        'write -z 100k 4k',
      ]),
  ],
];

async function write(
  path: string,
  size: string,
  options: Record<string, string | number>,
  commands: readonly string[],
): Promise<void> {
  await qemuImg.create(path, size, { options });
  await qemuIo(path, commands);
}

async function withSnapshots(path: string, options: Record<string, string | number>): Promise<void> {
  await write(path, '1M', { ...options, cluster_size: 4096 }, ['write 0 100k']);
  await qemuImg.ok('snapshot', '-c', 'one', path);
  await qemuIo(path, ['write 40k 20k', 'write 600k 8k']);
  await qemuImg.ok('snapshot', '-c', 'two', path);
  await qemuIo(path, ['write 8k 4k']);
}

/** Makes them all. */
export async function makeSubjects(
  folder: TemporaryFolder,
): Promise<(readonly [name: string, path: string])[]> {
  const base = folder.file('base.qcow2');
  await write(base, '512k', {}, ['write 0 200k']);
  const made: (readonly [string, string])[] = [];
  for (const [index, [name, make]] of SUBJECTS.entries()) {
    const path = folder.file(`subject${index}.qcow2`);
    await make(path, base);
    made.push([name, path]);
  }
  return made;
}

/** Where an image has words that a check looks at. */
export async function targetsOf(path: string): Promise<readonly (readonly number[])[]> {
  await using file = await openHost(path);
  const header = await readHeader(file);
  const clusterSize = 2 ** header.clusterBits;
  const words = async (at: number, count: number): Promise<number[]> => {
    const bytes = Buffer.alloc(count * 8);
    await readAt(file, bytes, at);
    const found: number[] = [];
    for (let i = 0; i < count; i++) if (bytes.readBigUInt64BE(i * 8) !== 0n) found.push(at + i * 8);
    return found;
  };
  const offsetIn = async (at: number): Promise<number> => {
    const bytes = Buffer.alloc(8);
    await readAt(file, bytes, at);
    return Number(bytes.readBigUInt64BE(0) & 0x00ff_ffff_ffff_fe00n);
  };
  const headerFields = [8, 16, 24, 32, 36, 40, 48, 56, 60, 64, 72, 72, 80, 88, 96].filter(
    (at) => header.version === 3 || at < 72,
  );
  const l1 = await words(header.l1At, header.l1Entries);
  const l2 = await Promise.all(l1.map(async (at) => words(await offsetIn(at), clusterSize / 8)));
  const table = await words(header.refcountTableAt, clusterSize / 8);
  const blocks = await Promise.all(table.map(async (at) => words(await offsetIn(at), clusterSize / 8)));
  const snapshots = await words(header.snapshotsAt, header.snapshotCount > 0 ? 24 : 0);
  const snapshotL1s = await Promise.all(
    (await listSnapshots(file, header)).map(({ l1At, l1Entries }) => words(l1At, l1Entries)),
  );
  const directoryAt = header.extensions.bitmaps?.directoryAt ?? 0;
  const directory = await words(directoryAt, directoryAt > 0 ? 9 : 0);
  const bitmaps = await Promise.all(
    (await listBitmaps(file, header)).map(({ tableAt, tableEntries }) => words(tableAt, tableEntries)),
  );
  const groups = [headerFields, l1, l2.flat(), table, blocks.flat(), snapshots, snapshotL1s.flat()];
  return [...groups, directory, bitmaps.flat()].filter((group) => group.length > 0);
}

/** Changes one to three words of an image, or its length, in ways that a fault or an attacker might. */
export async function damage(
  path: string,
  targets: readonly (readonly number[])[],
  random: Random,
): Promise<string> {
  const told: string[] = [];
  await using file = await open(path, 'r+');
  const { size } = await file.stat();
  for (let n = 1 + random.below(3); n > 0; n--) {
    if (random.below(25) === 0) {
      const cut = random.below(size);
      await file.truncate(cut);
      told.push(`cut at ${cut}`);
      continue;
    }
    const at = random.pick(random.pick(targets));
    const word = Buffer.alloc(8);
    await file.read(word, 0, 8, at);
    const old = word.readBigUInt64BE(0);
    const target = random.pick(random.pick(targets));
    const other = Buffer.alloc(8);
    await file.read(other, 0, 8, target);
    const values = [
      old ^ (1n << BigInt(random.below(64))),
      old ^ (1n << BigInt(random.below(64))),
      old ^ (1n << 63n),
      old ^ 1n,
      old + 512n,
      old + 0x1000n,
      0n,
      other.readBigUInt64BE(0),
      (BigInt(random.below(size)) & ~511n) | (1n << 63n),
      old | (1n << 62n),
      BigInt(random.below(2 ** 53)) << 11n,
    ];
    const value = BigInt.asUintN(64, random.pick(values));
    word.writeBigUInt64BE(value);
    await file.write(word, 0, 8, at);
    told.push(`0x${at.toString(16)}: ${old.toString(16)} -> ${value.toString(16)}`);
  }
  return told.join(', ');
}
