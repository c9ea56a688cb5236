import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { createQcow2 } from '../src/create.ts';
import { backingOf, readHeader } from '../src/header.ts';
import { encodeHeader } from '../src/header-encode.ts';
import { counted, openHost } from './host.ts';
import { seeded } from './random.ts';
import { ourRefusal, type Poke, poke, qemuRefusal, refusalOf } from './refusals.ts';

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
  const image = new MemoryDevice();
  await createQcow2(image, { size: 2 ** 20, clusterSize: 512 });
  const random = seeded(8);
  const good = encodeHeader(await readHeader(image));
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
