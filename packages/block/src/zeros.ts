/**
 * Finding zeros in bytes at the speed of memcmp.
 *
 * Most blocks that are not zero show it in a few bytes, so those are looked at first; only then is the
 * whole compared with a block of zeros, which costs one call for 64 KiB.
 */

const ZEROS = Buffer.alloc(65536);

/** True if every byte of `bytes` is zero; so it is of no bytes. */
export function isZero(bytes: Uint8Array): boolean {
  return isZeroRange(bytes, 0, bytes.length);
}

/** True if the bytes from `start` to `end` (exclusive) are all zero. */
export function isZeroRange(bytes: Uint8Array, start: number, end: number): boolean {
  if (start >= end) return true;
  if ((bytes[start] as number) !== 0 || (bytes[end - 1] as number) !== 0) return false;
  if ((bytes[(start + end) >>> 1] as number) !== 0) return false;
  for (let at = start; at < end; at += ZEROS.length) {
    const length = Math.min(ZEROS.length, end - at);
    if (ZEROS.compare(bytes, at, at + length, 0, length) !== 0) return false;
  }
  return true;
}

/** A run of bytes that are all zero, or in which no whole block is. */
export interface ZeroRun {
  readonly length: number;
  readonly zero: boolean;
}

/**
 * The run that begins at `start`: as many blocks of `block` bytes as are alike, all of them zero or none.
 * `offset` is where the first byte of `bytes` stands on its disk; blocks begin at multiples of `block` of the
 * disk. The first and the last block may be cut.
 */
export function zeroRunAt(bytes: Uint8Array, start: number, block: number, offset = 0): ZeroRun {
  const blockEnd = (at: number): number => Math.min(at + block - ((offset + at) % block), bytes.length);
  let end = blockEnd(start);
  const zero = isZeroRange(bytes, start, end);
  while (end < bytes.length) {
    const next = blockEnd(end);
    if (isZeroRange(bytes, end, next) !== zero) break;
    end = next;
  }
  return { length: end - start, zero };
}
