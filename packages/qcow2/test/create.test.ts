import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { test } from 'node:test';
import { DiskError, MemoryDevice } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { type CreateQcow2Options, createQcow2, versionOfCompat } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { openHost } from './host.ts';

const MIB = 2 ** 20;
const TIB = 2 ** 40;
const SIZES = [0, MIB, 5 * 2 ** 30 + 512, TIB];
const CLUSTER_SIZES = [512, 4096, 65_536, 2 * MIB];

/** Every combination that QEMU accepts. */
function* grid(): Generator<CreateQcow2Options> {
  for (const clusterSize of CLUSTER_SIZES) {
    for (const size of SIZES) {
      if (clusterSize === 512 && size === TIB) continue;
      yield { version: 2, clusterSize, size };
      for (const refcountBits of [1, 8, 16, 64]) {
        yield { version: 3, clusterSize, size, refcountBits };
      }
      yield { version: 3, clusterSize, size, compressionType: 'zstd' };
    }
  }
}

function qemuOptions(options: CreateQcow2Options): Record<string, string | number> {
  const bits = options.refcountBits === undefined ? {} : { refcount_bits: options.refcountBits };
  const lazy = options.lazyRefcounts === true ? { lazy_refcounts: 'on' } : {};
  return {
    cluster_size: options.clusterSize ?? 65_536,
    compat: options.version === 2 ? '0.10' : '1.1',
    ...bits,
    ...lazy,
    compression_type: options.compressionType ?? 'zlib',
    ...(options.extendedL2 === true && { extended_l2: 'on' }),
  };
}

async function createBoth(folder: { file(name: string): string }, options: CreateQcow2Options) {
  const [ours, theirs] = [folder.file('ours.qcow2'), folder.file('theirs.qcow2')];
  await using file = await openHost(ours);
  await createQcow2(file, options);
  const backing = options.backing === undefined ? [] : ['-u', '-b', options.backing.name];
  const format = options.backing?.format === undefined ? [] : ['-F', options.backing.format];
  const settings = Object.entries(qemuOptions(options)).map(([name, value]) => `${name}=${value}`);
  const rest = [...backing, ...format, '-o', settings.join(','), theirs, String(options.size)];
  await qemuImg.ok('create', '-q', '-f', 'qcow2', ...rest);
  return [ours, theirs] as const;
}

test('a new image is byte for byte the one that qemu-img makes', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  for (const options of grid()) {
    const [ours, theirs] = await createBoth(folder, options);
    assert.ok((await readFile(ours)).equals(await readFile(theirs)), JSON.stringify(options));
  }
});

test('a new overlay is byte for byte the one that qemu-img makes', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  for (const clusterSize of CLUSTER_SIZES) {
    for (const version of [2, 3] as const) {
      for (const lazyRefcounts of version === 3 ? [false, true] : [false]) {
        const extendedL2 = lazyRefcounts && clusterSize >= 16_384;
        const backing = { name: '../Bäse image.raw', format: 'raw' };
        const options = { version, clusterSize, size: 3 * MIB, lazyRefcounts, extendedL2, backing };
        const [ours, theirs] = await createBoth(folder, options);
        assert.ok((await readFile(ours)).equals(await readFile(theirs)), JSON.stringify(options));
      }
    }
  }
});

test(
  'an image whose L1 table needs many refcount blocks passes qemu-img check',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    for (const refcountBits of [1, 16, 64]) {
      const path = folder.file(`${refcountBits}.qcow2`);
      await using file = await openHost(path);
      await createQcow2(file, { clusterSize: 512, refcountBits, size: 128 * 2 ** 30 });
      const { status, report, stderr } = await qemuImg.check(path);
      assert.equal(status, 0, stderr);
      assert.equal(report['image-end-offset'], file.size);
      assert.equal((await readHeader(file)).l1Entries, 2 ** 22);
    }
  },
);

test('what was in the file before is gone', async () => {
  await using folder = await temporaryFolder();
  await using file = await openHost(folder.file('old'));
  await file.write(new Uint8Array(MIB).fill(0xff), 0);
  await createQcow2(file, { size: MIB });
  const made = await readFile(folder.file('old'));
  await using fresh = await openHost(folder.file('fresh'));
  await createQcow2(fresh, { size: MIB });
  assert.ok(made.equals(await readFile(folder.file('fresh'))));
});

test('sizes that QEMU refuses are refused in its words', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  await using file = await openHost(folder.file('ours'));
  const largest: readonly (readonly [clusterSize: number, size: number])[] = [
    [512, 128 * 2 ** 30],
    [65_536, 2 ** 51],
  ];
  for (const [clusterSize, size] of largest) {
    await createQcow2(file, { clusterSize, size });
    const settings = ['create', '-q', '-f', 'qcow2', '-o', `cluster_size=${clusterSize}`];
    const { stderr } = await qemuImg.run(...settings, folder.file('theirs'), String(size + 512));
    const message = stderr.trim().replace(/^qemu-img: [^:]*: /, '');
    await assert.rejects(createQcow2(file, { clusterSize, size: size + 512 }), { code: 'limit', message });
  }
});

test('options that QEMU refuses are refused in its words', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  await using file = await openHost(folder.file('ours'));
  const long = 'x'.repeat(400);
  const rows: readonly (readonly [
    text: string,
    options: Partial<CreateQcow2Options>,
    code: string,
    args?: readonly string[],
  ])[] = [
    ['cluster_size=1000', { clusterSize: 1000 }, 'invalid'],
    ['cluster_size=256', { clusterSize: 256 }, 'invalid'],
    ['cluster_size=4M', { clusterSize: 4 * MIB }, 'invalid'],
    ['refcount_bits=3', { refcountBits: 3 }, 'invalid'],
    ['refcount_bits=128', { refcountBits: 128 }, 'invalid'],
    ['refcount_bits=0', { refcountBits: 0 }, 'invalid'],
    ['compat=v2,refcount_bits=8', { version: 2, refcountBits: 8 }, 'invalid'],
    ['compat=v2,lazy_refcounts=on', { version: 2, lazyRefcounts: true }, 'invalid'],
    ['compat=v2,compression_type=zstd', { version: 2, compressionType: 'zstd' }, 'invalid'],
    ['compression_type=lz4', { compressionType: 'lz4' }, 'invalid'],
    ['compat=v2,extended_l2=on', { version: 2, extendedL2: true }, 'invalid'],
    ['cluster_size=8k,extended_l2=on', { clusterSize: 8192, extendedL2: true }, 'invalid'],
  ];
  for (const [text, options, code] of rows) {
    const { stderr } = await qemuImg.run('create', '-f', 'qcow2', '-o', text, folder.file('theirs'), '1M');
    const message = stderr.trim().replace(/^qemu-img: [^:]*: /, '');
    await assert.rejects(createQcow2(file, { size: MIB, ...options }), { code, message }, text);
  }
  const backing = { name: long, format: 'raw' };
  await assert.rejects(createQcow2(file, { size: MIB, clusterSize: 512, backing }), { code: 'no-space' });
  await assert.rejects(createQcow2(file, { size: MIB, backing: { name: '', format: 'raw' } }), {
    code: 'invalid',
    message: 'Expected backing file name, got empty string',
  });
  assert.throws(() => versionOfCompat('0.9'), { message: "Parameter 'version' does not accept value '0.9'" });
});

test('a device that keeps its size is cleared where the image needs it', async () => {
  const device = (size: number): MemoryDevice => {
    const memory = new MemoryDevice(size);
    memory.truncate = async (to) => {
      if (to !== size) throw new DiskError('not-supported', 'Cannot resize device files');
    };
    return memory;
  };
  const large = device(4 * MIB);
  await large.write(new Uint8Array(4 * MIB).fill(0xff), 0);
  await createQcow2(large, { size: MIB });
  const fresh = new MemoryDevice();
  await createQcow2(fresh, { size: MIB });
  const [made, expected] = [Buffer.alloc(fresh.size), Buffer.alloc(fresh.size)];
  await large.read(made, 0);
  await fresh.read(expected, 0);
  assert.ok(made.equals(expected));
  await assert.rejects(createQcow2(device(4096), { size: MIB }), { code: 'no-space' });
});

test('a size that is not a multiple of 512 is rounded up', async () => {
  await using folder = await temporaryFolder();
  await using file = await openHost(folder.file('image'));
  await createQcow2(file, { size: 1000 });
  assert.equal((await readHeader(file)).size, 1024);
});

test('a new image takes as much space as QEMU’s', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  for (const [clusterSize, size] of [
    [512, 2 ** 30],
    [65_536, 2 ** 40],
    [65_536, 0],
  ] as const) {
    const theirs = folder.file(`theirs-${clusterSize}-${size}`);
    await qemuImg.create(theirs, size, { options: { cluster_size: clusterSize } });
    await using file = await openHost(folder.file(`ours-${clusterSize}-${size}`));
    await createQcow2(file, { clusterSize, size });
    assert.equal(await file.allocated(), (await stat(theirs)).blocks * 512);
  }
});
