/**
 * Big-endian numbers in byte arrays: qcow2 tables and NBD messages are made of them.
 *
 * 64-bit fields become plain numbers, because a BigInt costs several times as much; what a number cannot
 * hold exactly is refused here, once, and nowhere else. Reading or writing past the end is a RangeError.
 */
import { DiskError } from './errors.ts';

const TWO_32 = 0x1_0000_0000;
/** The most that the high half of a 64-bit field may be for the whole to stay exact. */
const HIGHEST_HALF = 0x1f_ffff;

function checkInside(bytes: Uint8Array, at: number, length: number): void {
  if (!(at >= 0 && at + length <= bytes.length)) {
    throw new RangeError(`${length} bytes at ${at} are outside an array of ${bytes.length}`);
  }
}

/** The 16-bit number at `at`. */
export function getU16(bytes: Uint8Array, at: number): number {
  checkInside(bytes, at, 2);
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

/** The 32-bit number at `at`. */
export function getU32(bytes: Uint8Array, at: number): number {
  checkInside(bytes, at, 4);
  const high = ((bytes[at] as number) << 24) | ((bytes[at + 1] as number) << 16);
  return (high | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number)) >>> 0;
}

/** True if the 64-bit number at `at` is at most 2^53 - 1, and `getU64` thus returns it. */
export function fitsU64(bytes: Uint8Array, at: number): boolean {
  checkInside(bytes, at, 8);
  return getU32(bytes, at) <= HIGHEST_HALF;
}

/**
 * The 64-bit number at `at`. `name` is the field's name in the specification, for the message.
 *
 * @throws {DiskError} limit above 2^53 - 1
 */
export function getU64(bytes: Uint8Array, at: number, name = 'number'): number {
  checkInside(bytes, at, 8);
  const high = getU32(bytes, at);
  if (high > HIGHEST_HALF) {
    const low = getU32(bytes, at + 4);
    const text = high.toString(16) + low.toString(16).padStart(8, '0');
    throw new DiskError('limit', `${name} 0x${text} is above 2^53 - 1`);
  }
  return high * TWO_32 + getU32(bytes, at + 4);
}

/** Writes the low 16 bits of `value`. */
export function putU16(bytes: Uint8Array, at: number, value: number): void {
  checkInside(bytes, at, 2);
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Writes the low 32 bits of `value`. */
export function putU32(bytes: Uint8Array, at: number, value: number): void {
  checkInside(bytes, at, 4);
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes `value`, an integer of 0 to 2^53 - 1, as 64 bits. */
export function putU64(bytes: Uint8Array, at: number, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a 64-bit field: ${value}`);
  checkInside(bytes, at, 8);
  putU32(bytes, at, Math.floor(value / TWO_32));
  putU32(bytes, at + 4, value % TWO_32);
}
