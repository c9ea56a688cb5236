/** Sector ciphers against OpenSSL's own XTS and CBC, one cipher object a sector: slow, and seen to be right. */
import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { randomFrom } from '@strata/testkit';
import type { CipherSpec } from '../src/algorithms.ts';
import { sectorCipher } from '../src/sector-cipher.ts';

/** The vector of a sector, from the words of the specification. */
function vector({ ivGenerator, ivHash }: CipherSpec, key: Uint8Array, sector: number): Buffer {
  const iv = Buffer.alloc(16);
  if (ivGenerator === 'plain') iv.writeUInt32LE(sector % 2 ** 32, 0);
  else iv.writeBigUInt64LE(BigInt(sector), 0);
  if (ivGenerator !== 'essiv') return iv;
  const salt = createHash(ivHash ?? '')
    .update(key)
    .digest();
  const cipher = createCipheriv(`aes-${salt.length * 8}-ecb`, salt, null).setAutoPadding(false);
  return cipher.update(iv);
}

function expected(spec: CipherSpec, key: Uint8Array, bytes: Uint8Array, sector: number): Buffer {
  const name = `${spec.cipher}-${spec.mode}`;
  const sectors: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 512) {
    const iv = spec.mode === 'ecb' ? null : vector(spec, key, sector + at / 512);
    const cipher = createCipheriv(name, key, iv).setAutoPadding(false);
    sectors.push(cipher.update(bytes.subarray(at, at + 512)));
  }
  return Buffer.concat(sectors);
}

const spec = (cipher: CipherSpec['cipher'], mode: CipherSpec['mode'], iv: string): CipherSpec => {
  const [ivGenerator, ivHash] = iv.split(':') as [CipherSpec['ivGenerator'], CipherSpec['ivHash']];
  return { cipher, mode, ivGenerator, ivHash };
};

const SPECS: readonly (readonly [CipherSpec, keyBytes: number])[] = [
  [spec('aes-128', 'xts', 'plain64'), 32],
  [spec('aes-256', 'xts', 'plain64'), 64],
  [spec('aes-256', 'xts', 'plain'), 64],
  [spec('aes-128', 'xts', 'essiv:sha256'), 32],
  [spec('aes-128', 'cbc', 'plain64'), 16],
  [spec('aes-192', 'cbc', 'plain64'), 24],
  [spec('aes-256', 'cbc', 'plain'), 32],
  [spec('aes-256', 'cbc', 'essiv:sha256'), 32],
  [spec('aes-128', 'cbc', 'essiv:md5'), 16],
  [spec('aes-256', 'ecb', 'plain64'), 32],
];

for (const [one, keyBytes] of SPECS) {
  const title = `${one.cipher}-${one.mode}-${one.ivGenerator}${one.ivHash ? `:${one.ivHash}` : ''}`;
  test(`${title} makes what OpenSSL makes, and takes it back`, () => {
    const random = randomFrom(keyBytes);
    const key = random.bytes(keyBytes);
    const cipher = sectorCipher(one, key);
    for (const [sector, count] of [
      [0, 1],
      [7, 8],
      [2 ** 32 - 3, 6],
      [2 ** 43 - 2, 1],
      [1000, 128],
      [5, 129],
      [0, 300],
    ] as const) {
      const clear = random.bytes(count * 512);
      const into = new Uint8Array(clear.length);
      cipher.encrypt(clear, into, sector);
      assert.deepEqual(Buffer.from(into), expected(one, key, clear, sector), `${count} from ${sector}`);
      cipher.decrypt(into, into, sector);
      assert.deepEqual(into, clear);
    }
  });
}

test('bytes at odd places in memory make no difference, and the source stays as it is', () => {
  const key = randomFrom(1).bytes(64);
  const one = spec('aes-256', 'xts', 'plain64');
  const cipher = sectorCipher(one, key);
  const memory = randomFrom(2).bytes(3000);
  const clear = memory.subarray(3, 3 + 1024);
  const before = clear.slice();
  const into = memory.subarray(1501, 1501 + 1024);
  cipher.encrypt(clear, into, 9);
  assert.deepEqual(clear, before);
  assert.deepEqual(Buffer.from(into), expected(one, key, before, 9));
});

test('the key may be zeroed once the cipher is made', () => {
  const key = randomFrom(3).bytes(64);
  const one = spec('aes-256', 'xts', 'plain64');
  const cipher = sectorCipher(one, key);
  const wanted = expected(one, key, new Uint8Array(512), 1);
  key.fill(0);
  const into = new Uint8Array(512);
  cipher.encrypt(into, into, 1);
  assert.deepEqual(Buffer.from(into), wanted);
});

for (const [one, keyBytes] of [
  [spec('serpent-256', 'xts', 'plain64'), 64],
  [spec('twofish-128', 'cbc', 'plain64'), 16],
  [spec('aes-256', 'ctr', 'plain64'), 32],
] as const) {
  test(`${one.cipher} in ${one.mode} is refused by name`, () => {
    assert.throws(
      () => sectorCipher(one, new Uint8Array(keyBytes)),
      (error) => isDiskError(error, 'not-supported') && /serpent-256|twofish-128|ctr/.test(error.message),
    );
  });
}
