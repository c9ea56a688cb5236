import assert from 'node:assert/strict';
import { open, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { type HostSource, isDiskError, MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, run, temporaryFolder } from '@strata/testkit';
import { createQcow2 } from '../src/create.ts';
import { noExtensions, qemuFeatureNames } from '../src/extensions.ts';
import { hostOffset } from '../src/geometry.ts';
import { backingOf, type Header, parseHeader, readHeader, unsupportedFor } from '../src/header.ts';
import { encodeHeader } from '../src/header-encode.ts';
import { readInfo } from '../src/info.ts';
import { counted, openHost } from './host.ts';
import { seeded } from './random.ts';

type Poke = readonly [at: number, hex: string];

async function poke(path: string, ...pokes: readonly Poke[]): Promise<void> {
  await using file = await open(path, 'r+');
  for (const [at, hex] of pokes) await file.write(Buffer.from(hex, 'hex'), 0, undefined, at);
}

/** The sentence with which qemu-io refuses to open the image; undefined if it opens it. */
async function qemuRefusal(path: string, ...args: readonly string[]): Promise<string | undefined> {
  const { stdout, stderr } = await run('qemu-io', ['-f', 'qcow2', '-c', 'read 0 512', ...args, path]);
  const line = (stderr + stdout).split('\n').find((text) => text.includes("can't open"));
  return line?.replace(/^.*?can't open( device [^:]*)?: /, '');
}

type Refusal = { readonly code: string; readonly message: string } | undefined;

async function ourRefusal(path: string): Promise<Refusal> {
  await using file = await openHost(path);
  return await refusalOf(file);
}

async function refusalOf(file: HostSource): Promise<Refusal> {
  try {
    await readInfo(file);
    return undefined;
  } catch (error) {
    assert.ok(isDiskError(error), String(error));
    return { code: error.code, message: error.message };
  }
}

// The pokes of QEMU's iotest 080 and more of the kind, on an image of 64 MiB. A row's pokes add up.
const REFUSED: readonly (readonly [what: string, code: string, ...steps: readonly (readonly Poke[])[]])[] = [
  ['huge header', 'corrupt', [[100, 'ffffffff']], [[100, '7fffffff']], [[100, '00010008']]],
  ['short header', 'corrupt', [[100, '00000067']], [[100, '00000000']]],
  [
    'huge unknown extension',
    'corrupt',
    [
      [8, 'ffffffffffffffff'],
      [112, '12345678'],
      [116, '7fffffff'],
    ],
    [[8, '0000000000000074']],
    [[8, '0000000000000000']],
  ],
  ['huge refcount table', 'limit', [[56, 'ffffffff']], [[56, '00020001']], [[56, '00000081']]],
  ['no refcount table', 'corrupt', [[56, '00000000']]],
  ['misaligned refcount table', 'corrupt', [[48, '1234567890abcdef']], [[48, '0000000000010200']]],
  [
    'huge refcount table offset',
    'corrupt',
    [
      [48, 'ffffffffffff0000'],
      [56, '0000007f'],
    ],
  ],
  ['too many snapshots', 'limit', [[60, 'ffffffff']], [[60, '7fffffff']], [[60, '00010001']]],
  [
    'bad snapshot table offset',
    'corrupt',
    [
      [64, 'ffffffffffff0000'],
      [60, '0000ffff'],
    ],
    [
      [64, '1234567890abcdef'],
      [60, '00000000'],
    ],
  ],
  ['huge L1 table', 'limit', [[36, 'ffffffff']], [[36, '7fffffff']], [[36, '00400001']]],
  [
    'bad L1 table offset',
    'corrupt',
    [
      [40, '7fffffffffff0000'],
      [36, '0000ffff'],
    ],
    [
      [40, '1234567890abcdef'],
      [36, '00000001'],
    ],
  ],
  ['L1 table too small', 'corrupt', [[36, '00000000']]],
  ['huge disk', 'corrupt', [[24, '0000100000000000']]],
  [
    'huge backing file name',
    'corrupt',
    [
      [8, '0000000000001000'],
      [16, 'ffffffff'],
    ],
    [[16, '00000400']],
  ],
  ['wrong magic', 'corrupt', [[0, '514649fa']]],
  ['other version', 'not-supported', [[4, '00000001']], [[4, '00000004']], [[4, 'ffffffff']]],
  ['other cluster size', 'limit', [[20, '00000008']], [[20, '00000016']], [[20, 'ffffffff']]],
  ['wide refcounts', 'corrupt', [[96, '00000007']], [[96, 'ffffffff']]],
  ['unknown encryption', 'not-supported', [[32, '00000003']], [[32, '7fffffff']]],
  ['unknown features', 'not-supported', [[72, '8000000000000020']], [[72, '0000000000000040']]],
  ['unknown compression', 'not-supported', [[104, '02']], [[104, 'ff']]],
  ['compression without its bit', 'corrupt', [[104, '01']]],
  ['compression bit without compression', 'corrupt', [[72, '0000000000000008']]],
];

test(
  'what QEMU refuses for its header is refused in the same words',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    for (const [what, code, ...steps] of REFUSED) {
      const path = folder.file('image.qcow2');
      await qemuImg.create(path, '64M');
      for (const pokes of steps) {
        await poke(path, ...pokes);
        const message = await qemuRefusal(path);
        assert.ok(message !== undefined, `${what}: QEMU opens it`);
        assert.deepEqual(await ourRefusal(path), { code, message }, `${what}: ${JSON.stringify(pokes)}`);
      }
    }
  },
);

test('broken extensions are refused in the words of QEMU', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  const rows: readonly (readonly [code: string, pokes: readonly Poke[]])[] = [
    // Backing format of 16 bytes; the table of feature names becomes the victim.
    ['corrupt', [[112, 'e2792aca00000010']]],
    ['corrupt', [[112, '0537be7700000010']]],
    [
      'corrupt',
      [
        [32, '00000002'],
        [112, '0537be7700000011'],
      ],
    ],
    [
      'corrupt',
      [
        [32, '00000002'],
        [112, '0537be77000000100000000000000200'],
      ],
    ],
    ['corrupt', [[112, '2385287500000010']]],
    [
      'corrupt',
      [
        [88, '0000000000000001'],
        [112, '23852875000000180000000000000000'],
      ],
    ],
    [
      'corrupt',
      [
        [88, '0000000000000001'],
        [112, '23852875000000180000000100000001'],
      ],
    ],
    [
      'limit',
      [
        [88, '0000000000000001'],
        [112, '23852875000000180001000000000000'],
      ],
    ],
    [
      'corrupt',
      [
        [88, '0000000000000001'],
        [112, '2385287500000018000000010000000000000000000000200000000000010200'],
      ],
    ],
    [
      'limit',
      [
        [88, '0000000000000001'],
        [112, '2385287500000018000000010000000000000000080000000000000000010000'],
      ],
    ],
    [
      'corrupt',
      [
        [88, '0000000000000001'],
        [112, '2385287500000018000000010000000000000000000000000000000000010000'],
      ],
    ],
  ];
  for (const [code, pokes] of rows) {
    await qemuImg.create(path, '64M');
    await poke(path, ...pokes);
    const message = await qemuRefusal(path, '-r');
    assert.deepEqual(await ourRefusal(path), { code, message }, JSON.stringify(pokes));
  }
});

test('unknown features are named from the feature name table', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('image.qcow2');
  await qemuImg.create(path, '1M');
  const name = Buffer.alloc(48, 0);
  name.write('\0\x09time travel', 'latin1');
  await poke(path, [72, '0000000000004200'], [120, name.toString('hex')]);
  const refusal = await ourRefusal(path);
  assert.equal(refusal?.message, await qemuRefusal(path));
  assert.match(refusal?.message ?? '', /time travel, Unknown incompatible feature: 4000$/);
});

test(
  'a rewritten header is byte for byte the one that QEMU rewrites',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    for (const options of [{ compat: '0.10', cluster_size: 512 }, { compat: '1.1', refcount_bits: 8 }, {}]) {
      const backing = { name: folder.file('base'), format: 'raw' };
      await qemuImg.create(backing.name, '64M', { format: 'raw' });
      await qemuImg.create(path, '64M', { backing, options });
      await qemuIo(path, ['write 0 512']);
      if (!('compat' in options)) await qemuImg.ok('bitmap', '--add', path, 'b0');
      const bytes = await readFile(path);
      const clusterSize = 2 ** parseHeader(bytes).clusterBits;
      const encoded = Buffer.alloc(clusterSize);
      encodeHeader(parseHeader(bytes)).copy(encoded);
      assert.ok(encoded.equals(bytes.subarray(0, clusterSize)), JSON.stringify(options));
    }
  },
);

test(
  'what a header holds that we do not know is kept byte for byte',
  requires('qemu-img', 'qemu-io'),
  async () => {
    const random = seeded(7);
    const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => 1 + random.below(255));
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, '64M');
    const plain = parseHeader(await readFile(path));
    const header: Header = {
      ...plain,
      headerLength: 136,
      unknownFields: bytes(24),
      compatible: 1n << 40n,
      autoclear: 1n << 63n,
      backingName: Uint8Array.of(0x62, 0xff, 0xc3, 0x28),
      extensions: {
        ...noExtensions,
        backingFormat: 'qcow2',
        featureNames: Uint8Array.from(qemuFeatureNames()),
        unknown: [
          { type: 0x12345678, data: bytes(13) },
          { type: 0xfedcba98, data: bytes(0) },
        ],
      },
    };
    const encoded = encodeHeader(header);
    assert.deepEqual(parseHeader(encoded), header);
    assert.deepEqual(encodeHeader(parseHeader(encoded)), encoded);
    assert.equal(backingOf(header)?.format, 'qcow2');
    await poke(path, [0, encoded.toString('hex')]);
    const told = JSON.parse(await qemuImg.ok('info', '-f', 'qcow2', '--output=json', path)) as object;
    assert.ok('backing-filename-format' in told);
  },
);

test(
  'a header of 2 MiB clusters is read whole only where its extensions are long',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, '1M', { options: { cluster_size: '2M' } });
    await using file = await openHost(path);
    const watched = counted(file);
    const plain = await readHeader(watched);
    assert.equal(watched.bytesRead, 4096);
    const unknown = [{ type: 77, data: new Uint8Array(1_000_000).fill(5) }];
    const header = { ...plain, extensions: { ...plain.extensions, unknown } };
    await file.write(encodeHeader(header), 0);
    assert.deepEqual(await readHeader(file), header);
    const name = Buffer.from('base');
    await file.write(encodeHeader({ ...header, backingName: name }), 0);
    assert.deepEqual(backingOf(await readHeader(file)), { name: 'base', format: undefined });
  },
);

test('a file of any length and content is read or refused with a typed error', async () => {
  await using folder = await temporaryFolder();
  const random = seeded(8);
  const good = encodeHeader(parseHeader(await minimalImage(folder.file('good.qcow2'))));
  let read = 0;
  for (let i = 0; i < 3000; i++) {
    const bytes = Buffer.from(good.subarray(0, 1 + random.below(good.length)));
    for (let n = random.below(4); n > 0; n--) {
      const at = random.pick([8, 16, 20, 24, 32, 36, 40, 48, 56, 60, 64, 72, 88, 96, 100, 104, 112, 116]);
      bytes[at + random.below(8)] = random.pick([0, 1, 2, 0x7f, 0x80, 0xff, random.below(256)]);
    }
    const file = new MemoryDevice();
    await file.write(bytes, 0);
    if ((await refusalOf(file)) === undefined) read++;
  }
  assert.ok(read > 100 && read < 2900, `${read} of 3000 were read`);
});

async function minimalImage(path: string): Promise<Buffer> {
  await using file = await openHost(path);
  await createQcow2(file, { size: 2 ** 20, clusterSize: 512 });
  return await readFile(path);
}

test('features decide whether an image can be read and written', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const plain = parseHeader(await minimalImage(folder.file('image.qcow2')));
  const codes = (change: Partial<Header>): readonly (string | undefined)[] => {
    const header = { ...plain, ...change };
    return [unsupportedFor(header, 'read')?.code, unsupportedFor(header, 'write')?.code];
  };
  assert.deepEqual(codes({}), [undefined, undefined]);
  assert.deepEqual(codes({ incompatible: 1n }), [undefined, 'not-supported']);
  assert.deepEqual(codes({ incompatible: 2n }), [undefined, 'corrupt']);
  assert.deepEqual(codes({ incompatible: 4n }), ['not-supported', 'not-supported']);
  assert.deepEqual(codes({ incompatible: 8n, compressionType: 1 }), ['not-supported', 'not-supported']);
  assert.deepEqual(codes({ incompatible: 16n }), ['not-supported', 'not-supported']);
  assert.deepEqual(codes({ cryptMethod: 1 }), ['not-supported', 'not-supported']);
  assert.deepEqual(codes({ cryptMethod: 2 }), ['corrupt', 'corrupt']);
  const encryption = { at: hostOffset(65_536), length: 512 };
  const luks = { cryptMethod: 2, extensions: { ...noExtensions, encryption } };
  assert.deepEqual(codes(luks), ['not-supported', 'not-supported']);
  assert.deepEqual(codes({ autoclear: 2n }), ['corrupt', 'corrupt']);
  await qemuImg.create(folder.file('corrupt.qcow2'), '1M');
  await poke(folder.file('corrupt.qcow2'), [72, '0000000000000002']);
  const theirs = await qemuRefusal(folder.file('corrupt.qcow2'));
  assert.equal(unsupportedFor({ ...plain, incompatible: 2n }, 'write')?.message, theirs);
});
