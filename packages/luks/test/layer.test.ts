import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError, type MemoryDevice } from '@strata/block';
import { layerDevice, layerSuite, oracle, randomFrom } from '@strata/testkit';
import type { LuksChoices } from '../src/create.ts';
import { luksFormat, luksFormatWith } from '../src/layer.ts';
import { newDisk, PASSPHRASE } from './new-disk.ts';

const format = luksFormatWith({ passphrase: PASSPHRASE });
const SIZE = 300_032;

/** A disk that reads as zeros, as the suite wants it: a new one reads as noise. */
async function zeroDisk(choices: LuksChoices): Promise<MemoryDevice> {
  const memory = await newDisk(SIZE, choices);
  const layer = await format.open(memory);
  await layer.zero(0, SIZE, oracle(new Uint8Array(0)));
  return memory;
}

for (const choices of [{}, { cipherAlg: 'aes-128', cipherMode: 'cbc', ivgenAlg: 'essiv' }]) {
  layerSuite({
    name: `a luks disk ${JSON.stringify(choices)}`,
    size: SIZE,
    backed: false,
    open: async () => {
      const memory = await zeroDisk(choices);
      let layer = await format.open(memory);
      return {
        layer,
        reopen: async () => {
          await layer[Symbol.asyncDispose]();
          layer = await format.open(memory);
          return layer;
        },
        [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
      };
    },
  });
}

test('writes into one sector at once all survive', async () => {
  const memory = await zeroDisk({});
  const layer = await format.open(memory);
  const below = oracle(new Uint8Array(0));
  const disk = layerDevice(layer, below);
  const random = randomFrom(5);
  const expected = new Uint8Array(2048);
  const writes: Promise<void>[] = [];
  for (let at = 0; at < 2048; ) {
    const length = Math.min(1 + random.upTo(300), 2048 - at);
    const bytes = random.bytes(length);
    expected.set(bytes, at);
    writes.push(disk.write(bytes, at));
    at += length;
  }
  await Promise.all(writes);
  const found = new Uint8Array(2048);
  await disk.read(found, 0);
  assert.deepEqual(found, expected);
});

test('nothing of what is written stands in the file', async () => {
  const memory = await newDisk(SIZE);
  const layer = await format.open(memory);
  const marker = Buffer.from('something that must not be seen '.repeat(16));
  await layer.write(marker, 512, oracle(new Uint8Array(0)));
  assert.equal(Buffer.from(memory.bytes()).includes('must not be seen'), false);
});

test('a wrong passphrase and none are refused in the words of qemu-img', async () => {
  const memory = await newDisk(SIZE);
  const wrong = luksFormatWith({ passphrase: Buffer.from('wrong horse') });
  for (const open of [() => wrong.open(memory), () => wrong.openSource(memory)])
    await assert.rejects(
      open(),
      (error) =>
        isDiskError(error, 'denied') && error.message === 'Invalid password, cannot unlock any keyslot',
    );
  await assert.rejects(luksFormat.openSource(memory), {
    message: "Parameter 'key-secret' is required for cipher",
  });
});

test('a last sector that the file cuts counts, and a file that ends before the disk is corrupt', async () => {
  const memory = await newDisk(SIZE);
  await memory.truncate(memory.size - 100);
  assert.equal((await format.openSource(memory)).size, SIZE);
  await memory.truncate(memory.size - SIZE - 1000);
  await assert.rejects(format.openSource(memory), { code: 'corrupt' });
});

test('growing takes the space of what is added, and has no metadata to make', async () => {
  const memory = await newDisk(SIZE);
  const layer = await format.open(memory);
  const below = oracle(new Uint8Array(0));
  await assert.rejects(layer.resize(SIZE + 512, below, { preallocation: 'metadata' }), {
    code: 'not-supported',
  });
  await layer.resize(SIZE + 512, below, { preallocation: 'falloc' });
  const added = new Uint8Array(512).fill(1);
  await layer.readEncoded(added, SIZE);
  assert.deepEqual(added, new Uint8Array(512));
});
