/**
 * Enciphers and deciphers whole sectors of 512 bytes, each with a vector made from its number.
 *
 * Work goes in portions that stay in the processor's cache. Portions come and go within one call and nothing
 * waits, so that a cipher has one set of buffers, and calls never meet in them.
 */
import { DiskError } from '@strata/block';
import type { CipherSpec } from './algorithms.ts';
import { CbcCipher } from './cbc.ts';
import { EcbCipher } from './ecb.ts';
import { SECTOR } from './format.ts';
import { Ivs } from './ivs.ts';
import { XtsCipher } from './xts.ts';

/** Sectors of one portion. */
const PORTION = 128;

/** Both directions of one key. Lengths are whole sectors; `from` and `into` may be the same bytes. */
export interface SectorCipher {
  /** Enciphers `from` into `into`, which is as long. `sector` is the number of the first one. */
  encrypt(from: Uint8Array, into: Uint8Array, sector: number): void;
  /** The reverse. */
  decrypt(from: Uint8Array, into: Uint8Array, sector: number): void;
}

/** What a mode does with at most `PORTION` sectors. `ivs` holds 16 bytes for each of them. */
export interface PortionCipher {
  encrypt(from: Uint8Array, into: Uint8Array, ivs: Uint8Array): void;
  decrypt(from: Uint8Array, into: Uint8Array, ivs: Uint8Array): void;
}

/**
 * The cipher of a key, which is copied.
 *
 * @throws {DiskError} not-supported for ciphers and modes that are not there
 */
export function sectorCipher(spec: CipherSpec, key: Uint8Array): SectorCipher {
  const cipher = portionCipher(spec, key);
  const ivs = new Ivs(spec, key, PORTION);
  const work =
    (direction: 'encrypt' | 'decrypt') =>
    (from: Uint8Array, into: Uint8Array, sector: number): void => {
      for (let at = 0; at < from.length; at += PORTION * SECTOR) {
        const end = Math.min(at + PORTION * SECTOR, from.length);
        const vectors = ivs.of(sector + at / SECTOR, (end - at) / SECTOR);
        cipher[direction](from.subarray(at, end), into.subarray(at, end), vectors);
      }
    };
  return { encrypt: work('encrypt'), decrypt: work('decrypt') };
}

function portionCipher(spec: CipherSpec, key: Uint8Array): PortionCipher {
  checkCipher(spec);
  switch (spec.mode) {
    case 'xts':
      return new XtsCipher(key, PORTION);
    case 'cbc':
      return new CbcCipher(key, PORTION);
    default:
      return new EcbCipher(key);
  }
}

/** @throws {DiskError} not-supported for ciphers and modes whose data cannot be read or written here */
export function checkCipher({ cipher, mode }: CipherSpec): void {
  if (!cipher.startsWith('aes-'))
    throw new DiskError('not-supported', `the cipher '${cipher}' is not supported: OpenSSL does not have it`);
  if (mode === 'ctr') throw new DiskError('not-supported', "the cipher mode 'ctr' is not supported");
}
