/** A perfect disk: an array, and nothing that could be wrong with it. What every other disk is compared to. */
import type { BlockDevice, Extent } from '@strata/block';

/** A disk of `bytes`, which it keeps and changes. It has no gate: it is only called rightly. */
export function oracle(bytes: Uint8Array): BlockDevice {
  const extent = (offset: number, length: number): Extent => ({ offset, length, kind: 'data', depth: 1 });
  const copyOut = (into: Uint8Array, offset: number): void => {
    into.set(bytes.subarray(offset, offset + into.length));
  };
  return {
    size: bytes.length,
    caps: { blockSize: 1, zero: 'native', discard: 'native' },
    tryRead: (into, offset) => {
      copyOut(into, offset);
      return true;
    },
    read: async (into, offset) => copyOut(into, offset),
    tryExtentAt: extent,
    extentAt: async (offset, limit) => extent(offset, limit),
    write: async (from, offset) => bytes.set(from, offset),
    zero: async (offset, length) => {
      bytes.fill(0, offset, offset + length);
    },
    discard: async () => {},
    flush: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}
