/** luks disks of ours and of QEMU's, read and changed by the other one. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { createFile, openFile } from '@strata/block';
import {
  assertSameBytes,
  layerDevice,
  oracle,
  qemuImg,
  randomFrom,
  requires,
  run,
  temporaryFolder,
} from '@strata/testkit';
import { changeKeys } from '../src/amend.ts';
import { createLuks, type LuksChoices, planLuks } from '../src/create.ts';
import { readLuksInfo } from '../src/info.ts';
import { luksFormatWith } from '../src/layer.ts';

const SIZE = 1 << 20;
const WORDS = 'pass phrase, and more';
const PASSPHRASE = Buffer.from(WORDS);
const secret = (id = 's', words = WORDS): readonly string[] => [
  '--object',
  `secret,id=${id},data=${words.replaceAll(',', ',,')}`,
];
const options = (path: string): string => `driver=luks,key-secret=s,file.filename=${path}`;

const GRID: readonly LuksChoices[] = [
  {},
  { cipherAlg: 'aes-128', hashAlg: 'sha1' },
  { cipherAlg: 'aes-256', hashAlg: 'sha512' },
  { ivgenAlg: 'plain' },
  { ivgenAlg: 'essiv' },
  { cipherAlg: 'aes-128', cipherMode: 'cbc', ivgenAlg: 'essiv', ivgenHashAlg: 'md5', hashAlg: 'ripemd160' },
  { cipherAlg: 'aes-128', cipherMode: 'cbc', ivgenAlg: 'essiv' },
  { cipherAlg: 'aes-256', cipherMode: 'cbc', ivgenAlg: 'essiv', ivgenHashAlg: 'sha256', hashAlg: 'sha1' },
  { cipherAlg: 'aes-128', cipherMode: 'cbc', hashAlg: 'sha224' },
  { cipherAlg: 'aes-256', cipherMode: 'cbc', ivgenAlg: 'plain', hashAlg: 'sha384' },
  { cipherMode: 'ecb', hashAlg: 'md5' },
  { cipherAlg: 'aes-192' },
];

const optionNames = {
  cipherAlg: 'cipher-alg',
  cipherMode: 'cipher-mode',
  ivgenAlg: 'ivgen-alg',
  ivgenHashAlg: 'ivgen-hash-alg',
  hashAlg: 'hash-alg',
  iterTime: 'iter-time',
} as const;

function listOf(choices: LuksChoices): string {
  const given = Object.entries(choices) as [keyof typeof optionNames, unknown][];
  return [
    'key-secret=s',
    'iter-time=10',
    ...given.map(([name, value]) => `${optionNames[name]}=${value}`),
  ].join();
}

/** A luks disk of ours in a file, full of `bytes`. */
async function ourDisk(path: string, choices: LuksChoices, bytes: Uint8Array): Promise<void> {
  const plan = planLuks({ iterTime: 10, ...choices });
  await using file = await createFile(path);
  await file.truncate(plan.payloadOffset + bytes.length);
  (await createLuks(file, plan, PASSPHRASE)).fill(0);
  await using layer = await luksFormatWith({ passphrase: PASSPHRASE }).open(file);
  await layer.write(bytes, 0, oracle(new Uint8Array(0)));
  await layer.flush();
}

/** All bytes of a luks disk, as we read them. */
async function ourBytes(path: string, passphrase: Uint8Array = PASSPHRASE): Promise<Uint8Array> {
  await using file = await openFile(path, { access: 'read' });
  await using layer = await luksFormatWith({ passphrase }).openSource(file);
  const bytes = new Uint8Array(layer.size);
  await layer.readEncoded(bytes, 0);
  return bytes;
}

for (const choices of GRID) {
  test(
    `${JSON.stringify(choices)}: each reads what the other wrote`,
    requires('qemu-img', 'qemu-io'),
    async () => {
      await using folder = await temporaryFolder();
      const bytes = randomFrom(1).bytes(SIZE);
      const ours = folder.file('ours.luks');
      const theirs = folder.file('theirs.luks');
      const back = folder.file('back.raw');

      await ourDisk(ours, choices, bytes);
      await qemuImg.ok('convert', ...secret(), '--image-opts', options(ours), '-O', 'raw', back);
      assertSameBytes(await readFile(back), bytes);

      await qemuImg.ok(
        'create',
        '-q',
        ...secret(),
        '-f',
        'luks',
        '-o',
        listOf(choices),
        theirs,
        String(SIZE),
      );
      await qemuImg.ok(
        'convert',
        ...secret(),
        '-n',
        '-f',
        'raw',
        back,
        '--target-image-opts',
        options(theirs),
      );
      assertSameBytes(await ourBytes(theirs), bytes);

      await using file = await openFile(theirs, { access: 'write' });
      await using layer = await luksFormatWith({ passphrase: PASSPHRASE }).open(file);
      const disk = layerDevice(layer, oracle(new Uint8Array(0)));
      const patch = randomFrom(2).bytes(100_000);
      await disk.write(patch, 12_345);
      await disk.flush();
      bytes.set(patch, 12_345);
      await qemuImg.ok('convert', ...secret(), '-U', '--image-opts', options(theirs), '-O', 'raw', back);
      assertSameBytes(await readFile(back), bytes);
    },
  );
}

test('the facts of a header are those that qemu-img tells', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  for (const [index, choices] of GRID.entries()) {
    const path = folder.file(`${index}.luks`);
    await ourDisk(path, choices, new Uint8Array(512));
    const report = JSON.parse(await qemuImg.ok('info', '--output=json', path));
    await using file = await openFile(path, { access: 'read' });
    const info = await readLuksInfo(file);
    const slots = info.slots.map(({ active, keyOffset, iters, stripes }) => ({
      active,
      'key-offset': keyOffset,
      ...(active && { iters, stripes }),
    }));
    assert.deepEqual(report['format-specific'], {
      type: 'luks',
      data: {
        'cipher-alg': info.cipherAlg,
        'cipher-mode': info.cipherMode,
        'ivgen-alg': info.ivgenAlg,
        ...(info.ivgenHashAlg !== undefined && { 'ivgen-hash-alg': info.ivgenHashAlg }),
        'hash-alg': info.hashAlg,
        'payload-offset': info.payloadOffset,
        'master-key-iters': info.masterKeyIters,
        uuid: info.uuid,
        slots,
      },
    });
  }
});

test(
  'key slots that we add and erase are added and erased for qemu-img, and the reverse',
  requires('qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('disk.luks');
    const bytes = randomFrom(3).bytes(4096);
    await ourDisk(path, { cipherAlg: 'aes-128' }, bytes);
    const opensFor = async (words: string): Promise<boolean> => {
      const { status } = await run('qemu-io', [
        ...secret('s', words),
        '-c',
        'quit',
        '--image-opts',
        options(path),
      ]);
      return status === 0;
    };
    const second = Buffer.from('second');
    {
      await using file = await openFile(path, { access: 'write' });
      await changeKeys(file, {
        state: 'active',
        passphrase: PASSPHRASE,
        newPassphrase: second,
        iterTime: 10,
      });
    }
    assert.equal(await opensFor('second'), true);
    {
      await using file = await openFile(path, { access: 'write' });
      await changeKeys(file, { state: 'inactive', slot: 0 });
    }
    assert.equal(await opensFor(WORDS), false);

    const old = secret('s', 'second');
    const amend = (list: string) =>
      qemuImg.ok('amend', ...old, ...secret('t', 'third'), '-o', list, '--image-opts', options(path));
    await amend('state=active,new-secret=t,keyslot=5,iter-time=10');
    assertSameBytes(await ourBytes(path, Buffer.from('third')), bytes);
    await amend('state=inactive,old-secret=t');
    await assert.rejects(ourBytes(path, Buffer.from('third')), { code: 'denied' });
    assertSameBytes(await ourBytes(path, second), bytes);
  },
);

for (const list of ['cipher-alg=serpent-256', 'cipher-alg=twofish-256', 'cipher-mode=ctr']) {
  test(`a disk with ${list} tells its facts and is refused by name`, requires('qemu-img'), async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('disk.luks');
    await qemuImg.ok(
      'create',
      '-q',
      ...secret(),
      '-f',
      'luks',
      '-o',
      `key-secret=s,iter-time=10,${list}`,
      path,
      '1M',
    );
    await using file = await openFile(path, { access: 'read' });
    const info = await readLuksInfo(file);
    assert.ok(list === `cipher-alg=${info.cipherAlg}` || list === `cipher-mode=${info.cipherMode}`);
    await assert.rejects(luksFormatWith({ passphrase: PASSPHRASE }).openSource(file), {
      code: 'not-supported',
    });
  });
}
