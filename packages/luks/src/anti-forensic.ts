/**
 * Splitting a key over many stripes, all of which are needed to get it back: what a disk keeps of an erased
 * key slot, in sectors that it moved aside, is of no use then.
 *
 * Spec: LUKS1 On-Disk Format Specification 1.2.3, "Anti-forensic splitting".
 */
import { type HashName, hashBytes } from './algorithms.ts';
import { digest, randomFill } from './derive.ts';

/** Splits `key` into `stripes` pieces of its length, in a row. */
export function split(hash: HashName, key: Uint8Array, stripes: number): Uint8Array {
  const { length } = key;
  const pieces = new Uint8Array(length * stripes);
  const last = (stripes - 1) * length;
  randomFill(pieces.subarray(0, last));
  const sum = gather(hash, pieces, length, stripes);
  for (let i = 0; i < length; i++) pieces[last + i] = (sum[i] as number) ^ (key[i] as number);
  sum.fill(0);
  return pieces;
}

/** The key of `length` bytes that was split. */
export function merge(hash: HashName, pieces: Uint8Array, length: number, stripes: number): Uint8Array {
  const key = gather(hash, pieces, length, stripes);
  addTo(key, pieces, (stripes - 1) * length);
  return key;
}

/** All pieces but the last, added up, and diffused after each one. */
function gather(hash: HashName, pieces: Uint8Array, length: number, stripes: number): Uint8Array {
  const sum = new Uint8Array(length);
  for (let stripe = 0; stripe < stripes - 1; stripe++) {
    addTo(sum, pieces, stripe * length);
    diffuse(hash, sum);
  }
  return sum;
}

function addTo(sum: Uint8Array, pieces: Uint8Array, at: number): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) ^ (pieces[at + i] as number);
}

/** Replaces the bytes by hashes of themselves: a part as long as a hash is hashed with its index in front. */
function diffuse(hash: HashName, bytes: Uint8Array): void {
  const step = hashBytes(hash);
  for (let at = 0, index = 0; at < bytes.length; at += step, index++) {
    const part = bytes.subarray(at, at + step);
    const input = Buffer.alloc(4 + part.length);
    input.writeUInt32BE(index, 0);
    input.set(part, 4);
    part.set(digest(hash, input).subarray(0, part.length));
    input.fill(0);
  }
}
