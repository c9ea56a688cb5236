import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { chooseCipher, chooseHash, modeText, parseCipher } from '../src/algorithms.ts';

test('a header names a cipher by family, mode and the length of its key', () => {
  assert.deepEqual(parseCipher('aes', 'xts-plain64', 64), {
    cipher: 'aes-256',
    mode: 'xts',
    ivGenerator: 'plain64',
    ivHash: undefined,
  });
  assert.equal(parseCipher('aes', 'xts-plain64', 32).cipher, 'aes-128');
  assert.equal(parseCipher('aes', 'cbc-plain', 24).cipher, 'aes-192');
  assert.equal(parseCipher('serpent', 'cbc-essiv:sha256', 16).cipher, 'serpent-128');
  for (const mode of ['xts-plain64', 'cbc-essiv:sha256', 'xts-plain64:sha256'])
    assert.equal(modeText(parseCipher('aes', mode, 32)), mode);
});

const refusals: readonly (readonly [family: string, mode: string, keyBytes: number, sentence: RegExp])[] = [
  ['aes', 'xts', 64, /^Unexpected cipher mode string format 'xts'$/],
  ['aes', 'xts-plain64', 4, /^Algorithm 'aes' with key size 2 bytes not supported$/],
  ['aes', 'xts-plain64', 2 ** 32 - 1, /^Algorithm 'aes' with key size 2147483647 bytes not supported$/],
  ['rot13', 'xts-plain64', 64, /^Algorithm 'rot13' with key size 32 bytes not supported$/],
  ['aes', 'gcm-plain64', 32, /^Cipher mode gcm not supported$/],
  ['aes', 'cbc-random', 32, /^IV generator 'random' not supported$/],
  ['aes', 'cbc-essiv', 32, /^Missing IV generator hash specification$/],
  ['aes', 'cbc-essiv:sha1', 32, /^No AES cipher with key size 20 available$/],
  ['aes', 'cbc-essiv:crc32', 32, /^Hash algorithm crc32 not supported$/],
  ['a\u0007b', 'cbc-plain64', 32, /^Algorithm 'a\?b' with/],
];

for (const [family, mode, keyBytes, sentence] of refusals) {
  test(`${JSON.stringify(family)} ${mode} of ${keyBytes} bytes is refused: ${sentence.source}`, () => {
    assert.throws(
      () => parseCipher(family, mode, keyBytes),
      (error) => isDiskError(error, 'corrupt', 'not-supported') && sentence.test(error.message),
    );
  });
}

// The sentences are those of qemu-img 7.2 for the same options.
for (const [wish, sentence] of [
  [{ cipherAlg: 'foo' }, "Parameter 'cipher-alg' does not accept value 'foo'"],
  [{ cipherAlg: '3des' }, "Algorithm '3des' not supported"],
  [{ cipherMode: 'foo' }, "Parameter 'cipher-mode' does not accept value 'foo'"],
  [{ ivgenAlg: 'foo' }, "Parameter 'ivgen-alg' does not accept value 'foo'"],
  [
    { cipherMode: 'cbc', ivgenAlg: 'essiv', ivgenHashAlg: 'sha512' },
    'No AES cipher with key size 64 available',
  ],
] as const) {
  test(`${JSON.stringify(wish)} is refused as qemu-img refuses it`, () => {
    assert.throws(() => chooseCipher(wish), { message: sentence });
  });
}

test('the standards are those of qemu-img', () => {
  assert.equal(modeText(chooseCipher({})), 'xts-plain64');
  assert.equal(chooseCipher({}).cipher, 'aes-256');
  assert.equal(modeText(chooseCipher({ cipherMode: 'cbc', ivgenAlg: 'essiv' })), 'cbc-essiv:sha256');
  assert.equal(chooseHash(), 'sha256');
  assert.throws(() => chooseHash('foo'), { message: "Parameter 'hash-alg' does not accept value 'foo'" });
});
