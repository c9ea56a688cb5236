/** Sectors in ECB mode: blocks without vectors or chaining. */
import { BlockCipher } from './block-cipher.ts';
import type { PortionCipher } from './sector-cipher.ts';

/** As `PortionCipher`. */
export class EcbCipher implements PortionCipher {
  readonly #encrypt: BlockCipher;
  readonly #decrypt: BlockCipher;

  constructor(key: Uint8Array) {
    this.#encrypt = new BlockCipher(key, 'encrypt');
    this.#decrypt = new BlockCipher(key, 'decrypt');
  }

  encrypt(from: Uint8Array, into: Uint8Array): void {
    into.set(bytesOf(this.#encrypt.pass(from)));
  }

  decrypt(from: Uint8Array, into: Uint8Array): void {
    into.set(bytesOf(this.#decrypt.pass(from)));
  }
}

/** The bytes behind words. */
export function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
