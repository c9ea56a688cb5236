/**
 * Sectors in CBC mode: every block is added to the enciphered block before it, the first one to the vector.
 *
 * Deciphering is one pass over all blocks, and then the additions. Enciphering goes from block to block within
 * a sector, but sectors do not depend on each other: the first blocks of all sectors of a portion are one pass,
 * then all second blocks, and so on.
 *
 * Spec: NIST SP 800-38A, "The Cipher Block Chaining Mode".
 */
import { BlockCipher } from './block-cipher.ts';
import { bytesOf } from './ecb.ts';
import { SECTOR } from './format.ts';
import type { PortionCipher } from './sector-cipher.ts';

const SECTOR_WORDS = SECTOR / 4;

/** As `PortionCipher`. */
export class CbcCipher implements PortionCipher {
  readonly #encrypt: BlockCipher;
  readonly #decrypt: BlockCipher;
  /** The data of a portion, and the vectors of its sectors. */
  readonly #data: Uint32Array<ArrayBuffer>;
  readonly #bytes: Uint8Array;
  readonly #ivs: Uint32Array<ArrayBuffer>;
  /** One block of each sector. */
  readonly #column: Uint32Array<ArrayBuffer>;

  /** @param most sectors of the longest portion */
  constructor(key: Uint8Array, most: number) {
    this.#encrypt = new BlockCipher(key, 'encrypt');
    this.#decrypt = new BlockCipher(key, 'decrypt');
    this.#data = new Uint32Array(most * SECTOR_WORDS);
    this.#bytes = bytesOf(this.#data);
    this.#ivs = new Uint32Array(most * 4);
    this.#column = new Uint32Array(most * 4);
  }

  encrypt(from: Uint8Array, into: Uint8Array, ivs: Uint8Array): void {
    const data = this.#data;
    const column = this.#column;
    this.#bytes.set(from);
    bytesOf(this.#ivs).set(ivs);
    let before: Uint32Array = this.#ivs;
    const count = ivs.length / 4;
    const blocks = bytesOf(column).subarray(0, ivs.length);
    for (let block = 0; block < SECTOR_WORDS; block += 4) {
      for (let word = 0, at = block; word < count; word += 4, at += SECTOR_WORDS) {
        column[word] = (data[at] as number) ^ (before[word] as number);
        column[word + 1] = (data[at + 1] as number) ^ (before[word + 1] as number);
        column[word + 2] = (data[at + 2] as number) ^ (before[word + 2] as number);
        column[word + 3] = (data[at + 3] as number) ^ (before[word + 3] as number);
      }
      before = this.#encrypt.pass(blocks);
      for (let word = 0, at = block; word < count; word += 4, at += SECTOR_WORDS) {
        data[at] = before[word] as number;
        data[at + 1] = before[word + 1] as number;
        data[at + 2] = before[word + 2] as number;
        data[at + 3] = before[word + 3] as number;
      }
    }
    into.set(this.#bytes.subarray(0, from.length));
  }

  decrypt(from: Uint8Array, into: Uint8Array, ivs: Uint8Array): void {
    const data = this.#data;
    const vectors = this.#ivs;
    this.#bytes.set(from);
    bytesOf(vectors).set(ivs);
    const out = this.#decrypt.pass(this.#bytes.subarray(0, from.length));
    for (let start = 0, iv = 0; start < out.length; start += SECTOR_WORDS, iv += 4) {
      for (let i = 0; i < 4; i++) out[start + i] = (out[start + i] as number) ^ (vectors[iv + i] as number);
      for (let at = start + 4; at < start + SECTOR_WORDS; at++)
        out[at] = (out[at] as number) ^ (data[at - 4] as number);
    }
    into.set(bytesOf(out));
  }
}
