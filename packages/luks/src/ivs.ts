/**
 * The initial vectors of sectors: 16 bytes each, made from the sector's number.
 *
 * `plain` is its low 32 bits, `plain64` all of it, little-endian, the rest zeros. `essiv` enciphers that with
 * a hash of the key, with the cipher of the family whose key is as long as the hash.
 *
 * Spec: LUKS1 On-Disk Format Specification 1.2.3, "Cipher and hash specification registry".
 */
import type { CipherSpec, HashName } from './algorithms.ts';
import { BlockCipher } from './block-cipher.ts';
import { digest } from './derive.ts';

/** Makes the vectors of sectors in a row. */
export class Ivs {
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #bytes: Uint8Array;
  readonly #is32Bit: boolean;
  readonly #essiv: BlockCipher | undefined;

  /** @param most sectors of the longest row */
  constructor(spec: CipherSpec, key: Uint8Array, most: number) {
    this.#words = new Uint32Array(most * 4);
    this.#bytes = new Uint8Array(this.#words.buffer);
    this.#is32Bit = spec.ivGenerator === 'plain';
    if (spec.ivGenerator === 'essiv') {
      const salt = digest(spec.ivHash as HashName, key);
      this.#essiv = new BlockCipher(salt, 'encrypt');
      salt.fill(0);
    }
  }

  /** The vectors of `count` sectors from `sector` on, as bytes; good until the next call. */
  of(sector: number, count: number): Uint8Array {
    const words = this.#words;
    for (let i = 0; i < count; i++) {
      const number = sector + i;
      words[i * 4] = number;
      words[i * 4 + 1] = this.#is32Bit ? 0 : Math.floor(number / 2 ** 32);
      words[i * 4 + 2] = 0;
      words[i * 4 + 3] = 0;
    }
    const plain = this.#bytes.subarray(0, count * 16);
    if (this.#essiv === undefined) return plain;
    words.set(this.#essiv.pass(plain));
    return plain;
  }
}
