/** Encrypted images: of ours under QEMU, of QEMU's under us, and as layers by themselves. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { MemoryDevice, openFile } from '@strata/block';
import {
  layerSuite,
  qemuImg,
  requires,
  run,
  runOk,
  type TemporaryFolder,
  temporaryFolder,
} from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { changeImageKeys } from '../src/encryption.ts';
import { readInfo } from '../src/info.ts';
import { qcow2FormatWith } from '../src/layer.ts';
import { assertSurvives, randomBatches, runChanges } from './crash-run.ts';
import { createEncrypted, SECRET } from './encrypted-image.ts';
import { apply, mapOf, mirror, nothingBelow, randomChange, readGuest } from './guest.ts';
import { seeded } from './random.ts';

const PASSPHRASE = Buffer.from('abc');
const format = qcow2FormatWith({ passphrase: PASSPHRASE });
const encryption = { passphrase: PASSPHRASE, iterTime: 1 };
/** Cheap to open: its keys are short. */
const cheap = { ...encryption, cipherAlg: 'aes-128', cipherMode: 'cbc' };
const opened = (path: string): string => `driver=qcow2,encrypt.key-secret=s,file.filename=${path}`;
const SIZE = 411 * 512;

for (const [name, options, backed] of [
  ['an encrypted image', { encryption }, false],
  ['an encrypted overlay', { encryption }, true],
  [
    'an encrypted overlay of version 2 with small clusters',
    { encryption: cheap, version: 2, clusterSize: 512 },
    true,
  ],
  [
    'an encrypted overlay with subclusters',
    { encryption: cheap, extendedL2: true, clusterSize: 16_384 },
    true,
  ],
] as const) {
  layerSuite({
    name,
    size: SIZE,
    backed,
    open: async () => {
      const file = new MemoryDevice();
      const backing = backed ? { backing: { name: 'below', format: 'raw' } } : {};
      await createQcow2(file, { ...options, ...backing, size: SIZE });
      let layer = await format.open(file);
      return {
        layer,
        reopen: async () => {
          await layer[Symbol.asyncDispose]();
          layer = await format.open(file);
          return layer;
        },
        [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
      };
    },
  });
}

type Options = Omit<CreateQcow2Options, 'size' | 'encryption'> & { readonly choices?: object };

const GRID: readonly Options[] = [
  {},
  { version: 2 },
  { clusterSize: 512, refcountBits: 1 },
  { clusterSize: 4096, choices: { cipherAlg: 'aes-128', hashAlg: 'sha1' } },
  { clusterSize: 2 ** 21, choices: { cipherMode: 'cbc', ivgenAlg: 'essiv', hashAlg: 'sha512' } },
  { clusterSize: 4096, version: 2, choices: { cipherAlg: 'aes-128', cipherMode: 'cbc', ivgenAlg: 'essiv' } },
  { clusterSize: 65_536, choices: { cipherMode: 'cbc', ivgenAlg: 'plain64' } },
  { clusterSize: 65_536, extendedL2: true, choices: { ivgenAlg: 'plain' } },
  { clusterSize: 16_384, extendedL2: true, refcountBits: 64, choices: { ivgenAlg: 'essiv' } },
];

const diskSize = ({ clusterSize = 65_536 }: Options): number =>
  clusterSize === 2 ** 21 ? 2 * clusterSize + 66_048 : Math.min(64 * clusterSize, 2 ** 20) + 40_960 + 512;

/** Changes the image at random, and lets QEMU judge what came of it. `oracle` is what the guest sees. */
async function changeAndJudge(
  folder: TemporaryFolder,
  memory: MemoryDevice,
  oracle: Uint8Array,
  unit: number,
  seed: number,
): Promise<void> {
  const random = seeded(seed);
  const below = nothingBelow(oracle.length);
  const layer = await format.open(memory);
  for (let step = 0; step < 50; step++) {
    const change = randomChange(random, oracle.length, unit);
    await apply(layer, change, below);
    const seen = change.kind === 'discard' ? await readGuest(layer, 0, oracle.length, below) : oracle;
    mirror(oracle, change, seen);
  }
  await layer[Symbol.asyncDispose]();
  const path = folder.file('changed.qcow2');
  await writeFile(path, memory.bytes());
  const back = folder.file('back.raw');
  await qemuImg.ok('check', ...SECRET, '--image-opts', opened(path));
  await qemuImg.ok('convert', ...SECRET, '--image-opts', opened(path), '-O', 'raw', back);
  assert.ok((await readFile(back)).equals(oracle), 'QEMU reads what was written');
  const again = await format.openSource(memory);
  assert.ok(Buffer.from(await readGuest(again, 0, oracle.length)).equals(oracle), 'and so do we');
  const map = await qemuImg.ok('map', ...SECRET, '--output=json', '--image-opts', opened(path));
  assert.deepEqual(await mapOf(again), JSON.parse(map));
}

for (const [index, { choices, ...options }] of GRID.entries()) {
  const name = JSON.stringify({ ...options, ...choices });
  test(
    `${name}: an image of ours is clean for qemu-img, and of our content`,
    requires('qemu-img'),
    async () => {
      await using folder = await temporaryFolder();
      const size = diskSize(options);
      const memory = new MemoryDevice();
      await createQcow2(memory, { ...options, size, encryption: { ...encryption, ...choices } });
      const report = await checkImage(memory);
      assert.deepEqual(
        [report.corruptions, report.leaks, report.checkErrors],
        [0, 0, 0],
        'a new one is clean',
      );
      const unit = Math.min(options.clusterSize ?? 65_536, 65_536);
      await changeAndJudge(folder, memory, new Uint8Array(size), unit, index);
    },
  );
}

const qemuNames = {
  cipherAlg: 'cipher-alg',
  cipherMode: 'cipher-mode',
  ivgenAlg: 'ivgen-alg',
  hashAlg: 'hash-alg',
};

for (const { choices = {}, ...options } of GRID.filter((_, index) => index % 2 === 0 || index === 5)) {
  const { clusterSize = 65_536, version = 3, extendedL2 = false, refcountBits = 16 } = options;
  const given = Object.entries(choices).map(
    ([key, value]) => `encrypt.${qemuNames[key as keyof typeof qemuNames]}=${value}`,
  );
  const list = [
    `cluster_size=${clusterSize}`,
    `compat=${version === 2 ? '0.10' : '1.1'}`,
    `extended_l2=${extendedL2 ? 'on' : 'off'}`,
    ...(version === 3 ? [`refcount_bits=${refcountBits}`] : []),
    ...given,
  ];
  test(`${list}: an image of QEMU's is read and changed`, requires('qemu-img', 'qemu-io'), async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('theirs.qcow2');
    const size = diskSize(options);
    await createEncrypted(path, 'luks', { size, list });
    await runOk('qemu-io', [
      ...SECRET,
      ...['write -P 5 1000 60k', 'write -P 6 70k 1k', 'write -z 4k 8k'].flatMap((c) => ['-c', c]),
      '--image-opts',
      opened(path),
    ]);
    const raw = folder.file('theirs.raw');
    await qemuImg.ok('convert', ...SECRET, '--image-opts', opened(path), '-O', 'raw', raw);
    const memory = new MemoryDevice();
    await memory.write(await readFile(path), 0);
    const oracle = new Uint8Array(await readFile(raw));
    assert.deepEqual(await readGuest(await format.openSource(memory), 0, size), oracle);
    await changeAndJudge(folder, memory, oracle, Math.min(clusterSize, 65_536), 77);
  });
}

test('clusters that a snapshot shares keep their bytes', requires('qemu-img', 'qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.qcow2');
  await createEncrypted(path, 'luks');
  await runOk('qemu-io', [...SECRET, '-c', 'write -P 9 0 256k', '--image-opts', opened(path)]);
  await qemuImg.ok('snapshot', ...SECRET, '-c', 'one', '--image-opts', opened(path));
  {
    await using file = await openFile(path, { access: 'write' });
    await using layer = await format.open(file);
    await layer.write(new Uint8Array(1000).fill(3), 70_000, nothingBelow(2 ** 20));
  }
  const back = folder.file('back.raw');
  await qemuImg.ok('check', ...SECRET, '--image-opts', opened(path));
  for (const [args, expected] of [
    [[], 3],
    [['-l', 'one'], 9],
  ] as const) {
    await qemuImg.ok('convert', ...SECRET, ...args, '--image-opts', opened(path), '-O', 'raw', back);
    assert.equal((await readFile(back))[70_500], expected);
  }
  await using file = await openFile(path, { access: 'read' });
  const snapshot = await format.openSource(file, { snapshot: { idOrName: 'one' } });
  assert.deepEqual(await readGuest(snapshot, 0, 262_144), new Uint8Array(262_144).fill(9));
});

test(
  'an image with the old encryption is read, and not written',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('old.qcow2');
    await createEncrypted(path, 'aes');
    await runOk('qemu-io', [
      ...SECRET,
      '-c',
      'write -P 7 1k 100k',
      '-c',
      'write -P 8 300k 513',
      '--image-opts',
      opened(path),
    ]);
    const raw = folder.file('old.raw');
    await qemuImg.ok('convert', ...SECRET, '--image-opts', opened(path), '-O', 'raw', raw);
    await using file = await openFile(path, { access: 'write' });
    const source = await format.openSource(file);
    assert.deepEqual(Buffer.from(await readGuest(source, 0, 2 ** 20)), await readFile(raw));
    const odd = new Uint8Array(777);
    await source.readEncoded(odd, 1500);
    assert.deepEqual(odd, new Uint8Array(777).fill(7));
    await assert.rejects(format.open(file), {
      code: 'not-supported',
      message: 'images with the old AES encryption can be read, but not written',
    });
  },
);

test('opening without the right key is refused in the words of qemu-img', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const encrypted = new MemoryDevice();
  await createQcow2(encrypted, { size: SIZE, encryption: cheap });
  const plain = new MemoryDevice();
  await createQcow2(plain, { size: SIZE });
  const path = folder.file('disk.qcow2');
  for (const [memory, options, secret, list] of [
    [encrypted, {}, 'abc', ''],
    [encrypted, { passphrase: Buffer.from('wrong') }, 'wrong', ',encrypt.key-secret=s'],
    [
      encrypted,
      { passphrase: PASSPHRASE, encryptFormat: 'aes' },
      'abc',
      ',encrypt.key-secret=s,encrypt.format=aes',
    ],
    [plain, { encryptFormat: 'luks' }, 'abc', ',encrypt.format=luks'],
  ] as const) {
    await writeFile(path, memory.bytes());
    const image = `driver=qcow2,file.filename=${path}${list}`;
    const { stderr } = await run('qemu-img', [
      'map',
      '--object',
      `secret,id=s,data=${secret}`,
      '--image-opts',
      image,
    ]);
    for (const open of ['openSource', 'open'] as const)
      await assert.rejects(qcow2FormatWith(options)[open](memory), (error: Error) =>
        stderr.trimEnd().endsWith(`: ${error.message}`),
      );
  }
});

test('emptying keeps the LUKS header', async () => {
  const file = new MemoryDevice();
  await createQcow2(file, { size: SIZE, encryption: cheap, backing: { name: 'below', format: 'raw' } });
  const layer = await format.open(file);
  const below = nothingBelow(SIZE);
  await layer.write(new Uint8Array(100_000).fill(1), 0, below);
  await layer.empty();
  await layer.write(new Uint8Array(5000).fill(2), 3000, below);
  await layer[Symbol.asyncDispose]();
  const { corruptions, leaks } = await checkImage(file);
  assert.deepEqual([corruptions, leaks], [0, 0]);
  const again = await format.openSource(file);
  assert.deepEqual(await readGuest(again, 3000, 5000), new Uint8Array(5000).fill(2));
});

test('random changes of an encrypted image survive a power cut at any moment', async () => {
  let states = 0;
  for (const [index, clusterSize] of [4096, 512].entries()) {
    const file = new MemoryDevice();
    const sectors = clusterSize === 512 ? 60 : 80;
    await createQcow2(file, { size: sectors * 512, clusterSize, encryption: cheap });
    const start = { bytes: file.bytes(), backed: false };
    const batches = randomBatches(seeded(index), sectors, 15, clusterSize / 512);
    const image = { passphrase: PASSPHRASE };
    states += await assertSurvives(await runChanges(start, batches, { seed: index, image }), index, 300);
  }
  assert.ok(states > 300, `${states} states`);
});

test('key slots are changed in the clusters of the image', async () => {
  const file = new MemoryDevice();
  await createQcow2(file, { size: SIZE, encryption: cheap });
  const newPassphrase = Buffer.from('second');
  await changeImageKeys(file, { state: 'active', passphrase: PASSPHRASE, newPassphrase, iterTime: 1 });
  await qcow2FormatWith({ passphrase: newPassphrase }).openSource(file);
  await changeImageKeys(file, { state: 'inactive', oldPassphrase: PASSPHRASE });
  await assert.rejects(format.openSource(file), { code: 'denied' });
  assert.equal((await checkImage(file)).corruptions, 0);
});

test('a LUKS header that lies over the tables of its image is not changed', async () => {
  const file = new MemoryDevice();
  await createQcow2(file, { size: SIZE, encryption: cheap });
  const { luks } = await readInfo(file);
  assert.equal(luks?.slots.length, 8);
  // The header extension comes first of all: its length is made to reach over everything behind it.
  const bytes = Buffer.from(file.bytes());
  const at = bytes.indexOf(Buffer.from([0x05, 0x37, 0xbe, 0x77]));
  bytes.writeBigUInt64BE(65_536n, at + 8);
  await file.write(bytes.subarray(at, at + 24), at);
  const before = file.bytes().slice();
  const change = { state: 'inactive', slot: 0, force: true } as const;
  await assert.rejects(changeImageKeys(file, change), { code: 'corrupt' });
  assert.deepEqual(file.bytes(), before);
});

test('a passphrase for an image that is not encrypted is of no use and does no harm', async () => {
  const file = new MemoryDevice();
  await createQcow2(file, { size: SIZE });
  assert.deepEqual(await readGuest(await format.openSource(file), 0, SIZE), new Uint8Array(SIZE));
});

test('a LUKS header that is not where the image says is corrupt, for info and for opening', async () => {
  const file = new MemoryDevice();
  await createQcow2(file, { size: SIZE, encryption: cheap });
  const at = Buffer.from(file.bytes()).indexOf(Buffer.from([0x05, 0x37, 0xbe, 0x77]));
  const pointer = Buffer.alloc(16);
  for (const [offset, length] of [
    [0n, 1n << 20n],
    [1n << 52n, 1n << 20n],
    [262_144n, 0n],
    [262_144n, 591n],
    [262_144n, 592n],
    [65_536n, 1n << 52n],
  ] as const) {
    pointer.writeBigUInt64BE(offset, 0);
    pointer.writeBigUInt64BE(length, 8);
    await file.write(pointer, at + 8);
    await assert.rejects(format.openSource(file), { code: 'corrupt' });
    if (length !== 592n) await assert.rejects(readInfo(file), { code: 'corrupt' });
    await checkImage(file);
  }
});
