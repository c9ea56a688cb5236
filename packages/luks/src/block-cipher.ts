/**
 * AES by whole blocks without chaining: what XTS, ESSIV and CBC are made of here.
 *
 * A cipher object of Node costs microseconds to make, more than enciphering a sector takes. One that is kept
 * takes any number of blocks at a time, at the speed of the processor's AES instructions, and since ECB has no
 * state it may be used again and again: so every mode is computed as passes over many sectors.
 */
import type { Cipher, Decipher } from 'node:crypto';
import { DiskError } from '@strata/block';

/** Loading it takes as long as a small command. */
const crypto = () => process.getBuiltinModule('node:crypto');

const WORD_ORDER = new Uint8Array(Uint32Array.of(1).buffer);

/** One key, used in one direction. */
export class BlockCipher {
  readonly #cipher: Cipher | Decipher;

  /**
   * @param key 16, 24 or 32 bytes; copied
   * @throws {DiskError} not-supported where OpenSSL has no AES, or words are kept the other way round
   */
  constructor(key: Uint8Array, direction: 'encrypt' | 'decrypt') {
    if (WORD_ORDER[0] !== 1)
      throw new DiskError('not-supported', 'encrypted images are not supported on big-endian machines');
    const name = `aes-${key.length * 8}-ecb`;
    const { createCipheriv, createDecipheriv } = crypto();
    this.#cipher =
      direction === 'encrypt' ? createCipheriv(name, key, null) : createDecipheriv(name, key, null);
    this.#cipher.setAutoPadding(false);
  }

  /** The blocks of `bytes`, each by itself, as words of memory of their own. */
  pass(bytes: Uint8Array): Uint32Array<ArrayBuffer> {
    const out = this.#cipher.update(bytes);
    if (out.byteOffset % 4 === 0)
      return new Uint32Array(out.buffer as ArrayBuffer, out.byteOffset, bytes.length >>> 2);
    const words = new Uint32Array(bytes.length >>> 2);
    new Uint8Array(words.buffer).set(out);
    return words;
  }
}
