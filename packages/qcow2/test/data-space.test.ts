/** Images whose guest data lies in another file. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, run, temporaryFolder } from '@strata/testkit';
import { createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { readInfo } from '../src/info.ts';
import { qcow2Format } from '../src/layer.ts';
import { nothingBelow, readGuest } from './guest.ts';
import { openHost } from './host.ts';
import { poke } from './refusals.ts';

const K64 = 65_536;
const SIZE = 16 * K64;

async function newImage({ raw = false } = {}) {
  const [memory, data] = [new MemoryDevice(), new MemoryDevice()];
  await createQcow2(memory, { size: SIZE, dataFile: { name: 'disk.data', file: data, raw } });
  const opening = { openDataFile: async () => data };
  return { memory, data, opening };
}

test('the layer asks for the file by the recorded name, and only where there is one', async () => {
  const { memory, data } = await newImage();
  const asked: string[] = [];
  const openDataFile = async (name: string) => {
    asked.push(name);
    return data;
  };
  await using _ = await qcow2Format.open(memory, { openDataFile });
  await qcow2Format.openSource(memory, { openDataFile });
  assert.deepEqual(asked, ['disk.data', 'disk.data']);
  const plain = new MemoryDevice();
  await createQcow2(plain, { size: SIZE });
  await qcow2Format.openSource(plain, { openDataFile });
  assert.equal(asked.length, 2);
  await assert.rejects(qcow2Format.openSource(memory), {
    code: 'not-supported',
    message: /external data file/,
  });
});

test('every guest cluster lies at its own offset, also the first', async () => {
  const { memory, data, opening } = await newImage();
  await using layer = await qcow2Format.open(memory, opening);
  for (const cluster of [5, 0, 2]) {
    await layer.write(new Uint8Array(K64).fill(cluster + 1), cluster * K64, nothingBelow(SIZE));
    const mapping = await layer.map(cluster * K64, K64);
    assert.deepEqual([mapping.kind, mapping.kind === 'raw' && mapping.at], ['raw', cluster * K64]);
    assert.equal(data.bytes()[cluster * K64], cluster + 1);
  }
});

test('a raw data file keeps its autoclear bit, and has the zeros too', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const { memory, data, opening } = await newImage({ raw: true });
  const layer = await qcow2Format.open(memory, opening);
  const below = nothingBelow(SIZE);
  await layer.write(new Uint8Array(3 * K64).fill(7), 100, below);
  await layer.zero(1000, K64, below);
  await layer.discard(2 * K64, K64);
  const content = await readGuest(layer, 0, SIZE);
  assert.ok(Buffer.from(data.bytes().subarray(0, SIZE)).equals(content));
  await layer[Symbol.asyncDispose]();
  assert.equal((await readHeader(memory)).autoclear, 2n);
  const image = folder.file('image.qcow2');
  await writeFile(image, memory.bytes());
  const information = JSON.parse(await qemuImg.ok('info', '--output=json', image));
  assert.equal(information['format-specific'].data['data-file-raw'], true);
});

test('a new image is byte for byte the one that qemu-img makes', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  for (const raw of [false, true]) {
    for (const extendedL2 of [false, true]) {
      const name = folder.file(`${raw}-${extendedL2}.data`);
      const [ours, theirs] = [folder.file('ours'), folder.file('theirs')];
      await using file = await openHost(ours);
      await using data = await openHost(name);
      await createQcow2(file, { size: SIZE, extendedL2, dataFile: { name, file: data, raw } });
      const options = {
        data_file: name,
        data_file_raw: raw ? 'on' : 'off',
        extended_l2: extendedL2 ? 'on' : 'off',
      };
      await qemuImg.create(theirs, SIZE, { options });
      const [a, b] = [await readFile(ours), await readFile(theirs)];
      const length = Math.min(a.length, b.length);
      assert.ok(a.subarray(0, length).equals(b.subarray(0, length)), `${raw} ${extendedL2}`);
      assert.ok([...a.subarray(length), ...b.subarray(length)].every((byte) => byte === 0));
    }
  }
});

describe('hostile', () => {
  const made = async (folder: { file(name: string): string }) => {
    const path = folder.file('image.qcow2');
    const name = folder.file('image.data');
    await qemuImg.create(path, SIZE, { options: { data_file: name } });
    await qemuIo(path, ['write -P 1 0 128k']);
    return { path, name };
  };
  const tools = requires('qemu-img', 'qemu-io');

  for (const [what, word] of [
    ['an entry that leads elsewhere', '8000000000050000'],
    ['a compressed cluster', '4000000000050000'],
    ['an unaligned entry', '8000000000010200'],
  ] as const) {
    test(`${what} ends reading and writing there, in QEMU’s words`, tools, async () => {
      await using folder = await temporaryFolder();
      const { path, name } = await made(folder);
      // The entry of the second cluster; the L2 table follows the L1 table.
      await poke(path, [4 * K64 + 8, word]);
      const { stdout, stderr } = await run('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read 64k 64k', path]);
      const [, sentence] = /Image is corrupt: (.*?); further/.exec(stderr + stdout) ?? [];
      assert.ok(sentence, stderr + stdout);
      await using file = await openHost(path);
      await using data = await openHost(name);
      await using layer = await qcow2Format.open(file, { openDataFile: async () => data });
      await assert.rejects(layer.map(K64, K64), { code: 'corrupt', message: sentence });
      const below = nothingBelow(SIZE);
      await assert.rejects(layer.readEncoded(new Uint8Array(512), K64), { code: 'corrupt' });
      await assert.rejects(layer.write(new Uint8Array(512), K64, below), { code: 'corrupt' });
      await assert.rejects(layer.zero(K64, 512, below), { code: 'corrupt' });
      assert.equal((await layer.map(0, K64)).kind, 'raw');
    });
  }

  test('the bit without a name is refused, a name without the bit is only told', tools, async () => {
    await using folder = await temporaryFolder();
    const { path } = await made(folder);
    await poke(path, [72, '0000000000000000']);
    await using unused = await openHost(path);
    const { dataFile } = await readInfo(unused);
    assert.deepEqual(dataFile, { name: folder.file('image.data'), raw: undefined });
    const information = JSON.parse(await qemuImg.ok('info', '--output=json', path));
    const { data } = information['format-specific'];
    assert.deepEqual([data['data-file'], data['data-file-raw']], [dataFile?.name, undefined]);

    const nameless = folder.file('nameless.qcow2');
    await qemuImg.create(nameless, SIZE);
    await poke(nameless, [72, '0000000000000004']);
    await using file = await openHost(nameless);
    const { stderr } = await qemuImg.run('check', nameless);
    const [, message] = /: ('data-file'.*)/.exec(stderr) ?? [];
    await assert.rejects(qcow2Format.openSource(file), { code: 'corrupt', message });
  });
});
