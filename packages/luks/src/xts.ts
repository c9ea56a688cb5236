/**
 * Sectors in XTS mode: every block is enciphered between two additions of its tweak.
 *
 * The first tweak of a sector is its vector, enciphered with the second half of the key; each next one is the
 * one before it, doubled in GF(2^128). So a portion takes two passes of a block cipher, one over the vectors
 * and one over the data, and the additions are done here, four words a block.
 *
 * Spec: IEEE 1619-2007, "XTS-AES transform".
 */
import { BlockCipher } from './block-cipher.ts';
import { bytesOf } from './ecb.ts';
import { SECTOR } from './format.ts';
import type { PortionCipher } from './sector-cipher.ts';

const SECTOR_WORDS = SECTOR / 4;

/** As `PortionCipher`. */
export class XtsCipher implements PortionCipher {
  readonly #encrypt: BlockCipher;
  readonly #decrypt: BlockCipher;
  readonly #tweak: BlockCipher;
  readonly #data: Uint32Array<ArrayBuffer>;
  readonly #bytes: Uint8Array;
  readonly #tweaks: Uint32Array<ArrayBuffer>;

  /** @param key two keys, one after the other. @param most sectors of the longest portion */
  constructor(key: Uint8Array, most: number) {
    const half = key.length / 2;
    this.#encrypt = new BlockCipher(key.subarray(0, half), 'encrypt');
    this.#decrypt = new BlockCipher(key.subarray(0, half), 'decrypt');
    this.#tweak = new BlockCipher(key.subarray(half), 'encrypt');
    this.#data = new Uint32Array(most * SECTOR_WORDS);
    this.#bytes = bytesOf(this.#data);
    this.#tweaks = new Uint32Array(most * SECTOR_WORDS);
  }

  encrypt(from: Uint8Array, into: Uint8Array, ivs: Uint8Array): void {
    this.#work(this.#encrypt, from, into, ivs);
  }

  decrypt(from: Uint8Array, into: Uint8Array, ivs: Uint8Array): void {
    this.#work(this.#decrypt, from, into, ivs);
  }

  #work(cipher: BlockCipher, from: Uint8Array, into: Uint8Array, ivs: Uint8Array): void {
    this.#bytes.set(from);
    tweak(this.#data, this.#tweaks, this.#tweak.pass(ivs));
    const out = cipher.pass(this.#bytes.subarray(0, from.length));
    const tweaks = this.#tweaks;
    for (let i = 0; i < out.length; i++) out[i] = (out[i] as number) ^ (tweaks[i] as number);
    into.set(bytesOf(out));
  }
}

/** Adds to the blocks of sectors their tweaks, and keeps these in `tweaks`. `first` has the first of each sector. */
function tweak(data: Uint32Array, tweaks: Uint32Array, first: Uint32Array): void {
  for (let from = 0, word = 0; from < first.length; from += 4) {
    let a = first[from] as number;
    let b = first[from + 1] as number;
    let c = first[from + 2] as number;
    let d = first[from + 3] as number;
    for (const end = word + SECTOR_WORDS; word < end; word += 4) {
      tweaks[word] = a;
      tweaks[word + 1] = b;
      tweaks[word + 2] = c;
      tweaks[word + 3] = d;
      data[word] = (data[word] as number) ^ a;
      data[word + 1] = (data[word + 1] as number) ^ b;
      data[word + 2] = (data[word + 2] as number) ^ c;
      data[word + 3] = (data[word + 3] as number) ^ d;
      // The bit that is shifted out comes back as the polynomial x^7 + x^2 + x + 1.
      const carry = (d >> 31) & 0x87;
      d = (d << 1) | (c >>> 31);
      c = (c << 1) | (b >>> 31);
      b = (b << 1) | (a >>> 31);
      a = (a << 1) ^ carry;
    }
  }
}
