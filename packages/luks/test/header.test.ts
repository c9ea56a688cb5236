/** Headers that lie: each is a typed error before anything that they lead to is read or derived. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError, MemoryDevice } from '@strata/block';
import { decodeHeader, encodeHeader, materialSectors, payloadOffsetFor } from '../src/header.ts';
import { openLuks } from '../src/key-slots.ts';
import { luksFormat } from '../src/layer.ts';
import { newDisk, PASSPHRASE } from './new-disk.ts';

const valid = (await newDisk(4096)).bytes().subarray(0, 592);

test('a header is written as it was read', () => {
  assert.deepEqual(encodeHeader(decodeHeader(valid)), Buffer.from(valid));
});

test('layouts are those of qemu-img', () => {
  // `qemu-img info` of new images: payload offsets of aes-256-xts, of aes-256-cbc, of aes-128-cbc.
  assert.equal(payloadOffsetFor(64), 2_068_480);
  assert.equal(materialSectors(64) * 512, 258_048);
  assert.equal(payloadOffsetFor(32), 1_052_672);
  assert.equal(payloadOffsetFor(16), 528_384);
});

const slot = (index: number, field: number): number => 208 + index * 48 + field;
const u32 =
  (at: number, value: number) =>
  (head: Buffer): void => {
    head.writeUInt32BE(value >>> 0, at);
  };
const text =
  (at: number, words: string) =>
  (head: Buffer): void => {
    head.fill(0, at, at + 32);
    head.write(words, at, 32, 'latin1');
  };

const pokes: readonly (readonly [what: string, poke: (head: Buffer) => void, sentence: RegExp])[] = [
  ['another magic', u32(0, 0), /^Volume is not in LUKS format$/],
  ['version 2', (head) => head.writeUInt16BE(2, 6), /^LUKS version 2 is not supported$/],
  ['an endless cipher name', text(8, 'a'.repeat(32)), /^LUKS header cipher name is not NUL terminated$/],
  ['an endless mode', text(40, 'a'.repeat(32)), /^LUKS header cipher mode is not NUL terminated$/],
  ['an endless hash', text(72, 'a'.repeat(32)), /^LUKS header hash spec is not NUL terminated$/],
  ['a payload over the header', u32(104, 7), /^LUKS payload is overlapping with the header$/],
  ['a payload over key material', u32(104, 100), /^Keyslot 0 is overlapping with the encrypted payload$/],
  ['a digest of no iterations', u32(164, 0), /^LUKS key iteration count is zero$/],
  ['no stripes', u32(slot(0, 44), 0), /^Keyslot 0 is corrupted \(stripes 0 != 4000\)$/],
  ['too many stripes', u32(slot(3, 44), 2 ** 32 - 1), /^Keyslot 3 is corrupted \(stripes -1 != 4000\)$/],
  ['a slot of another state', u32(slot(1, 0), 7), /^Keyslot 1 state \(active\/disable\) is corrupted$/],
  ['a slot of no iterations', u32(slot(0, 4), 0), /^Keyslot 0 iteration count is zero$/],
  ['a slot in the header', u32(slot(0, 40), 7), /^Keyslot 0 is overlapping with the LUKS header$/],
  [
    'a slot past the payload',
    u32(slot(7, 40), 5000),
    /^Keyslot 7 is overlapping with the encrypted payload$/,
  ],
  [
    'a slot past 2^32',
    u32(slot(4, 40), 2 ** 32 - 1),
    /^Keyslot 4 is overlapping with the encrypted payload$/,
  ],
  ['two slots in one place', u32(slot(1, 40), 100), /^Keyslots 0 and 1 are overlapping in the header$/],
  ['a key of 4 GiB', u32(108, 2 ** 32 - 1), /^Keyslot 0 is overlapping with the encrypted payload$/],
  ['a key of no bytes', u32(108, 0), /^Algorithm 'aes' with key size 0 bytes not supported$/],
  [
    'a cipher that nobody knows',
    text(8, 'rot13'),
    /^Algorithm 'rot13' with key size 32 bytes not supported$/,
  ],
  ['a hash that nobody knows', text(72, 'crc32'), /^Hash algorithm crc32 not supported$/],
];

for (const [what, poke, sentence] of pokes) {
  test(`${what} is refused`, async () => {
    const head = Buffer.from(valid);
    poke(head);
    const file = new MemoryDevice();
    await file.write(head, 0);
    await assert.rejects(
      openLuks(file, PASSPHRASE),
      (error) => isDiskError(error, 'corrupt', 'not-supported') && sentence.test(error.message),
    );
  });
}

test('iterations by the billion are refused before the first one', async () => {
  const memory = await newDisk(4096);
  const head = Buffer.from(valid);
  for (const at of [slot(0, 4), 164]) {
    const poked = Buffer.from(head);
    poked.writeUInt32BE(2 ** 32 - 1, at);
    await memory.write(poked, 0);
    await assert.rejects(
      openLuks(memory, PASSPHRASE),
      (error) =>
        isDiskError(error, 'limit') && /iterations of PBKDF2, more than 1073741824$/.test(error.message),
    );
  }
});

test('a file that ends inside the header or the key material is corrupt', async () => {
  for (const size of [0, 6, 591]) {
    const file = new MemoryDevice();
    await file.write(valid.subarray(0, size), 0);
    await assert.rejects(openLuks(file, PASSPHRASE), { code: 'corrupt' });
  }
  const file = new MemoryDevice();
  await file.write(valid, 0);
  await assert.rejects(openLuks(file, PASSPHRASE), { code: 'corrupt' });
});

test('every single byte of a header may be anything', async () => {
  let refused = 0;
  for (let at = 0; at < 592; at++) {
    for (const value of [0, 1, 0x7f, 0xff]) {
      const head = Buffer.from(valid);
      head[at] = value;
      try {
        decodeHeader(head);
      } catch (error) {
        assert.ok(isDiskError(error, 'corrupt', 'not-supported'), String(error));
        refused++;
      }
    }
  }
  assert.ok(refused > 300, `${refused} refused`);
});

test('only version 1 is known by its first bytes', () => {
  assert.equal(luksFormat.matches(valid), true);
  assert.equal(luksFormat.matches(valid.subarray(0, 7)), false);
  const second = Buffer.from(valid);
  second.writeUInt16BE(2, 6);
  assert.equal(luksFormat.matches(second), false);
});
