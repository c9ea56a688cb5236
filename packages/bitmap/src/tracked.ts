/** A disk that remembers what was written to it. */
import type { BlockDevice } from '@strata/block';
import type { DirtyBitmap } from './bitmap.ts';

/**
 * `device`, with every write, zero and discard marked in all of `bitmaps` before it is passed on: a change that
 * fails or is cut off midway is marked too. `bitmaps` is looked at for each change, so bitmaps may come and go.
 * Both stay the caller's: disposing of the result does nothing.
 *
 * @throws {RangeError} for a bitmap of another size
 */
export function tracked(device: BlockDevice, bitmaps: Iterable<DirtyBitmap>): BlockDevice {
  for (const { size } of bitmaps) {
    if (size !== device.size) throw new RangeError(`a bitmap of ${size} bytes for a disk of ${device.size}`);
  }
  const mark = (offset: number, length: number): void => {
    for (const bitmap of bitmaps) bitmap.set(offset, length);
  };
  return {
    size: device.size,
    caps: device.caps,
    read: (into, offset) => device.read(into, offset),
    tryRead: (into, offset) => device.tryRead(into, offset),
    extentAt: (offset, limit) => device.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => device.tryExtentAt(offset, limit),
    write: async (from, offset) => {
      mark(offset, from.length);
      await device.write(from, offset);
    },
    zero: async (offset, length, how) => {
      mark(offset, length);
      await device.zero(offset, length, how);
    },
    discard: async (offset, length) => {
      mark(offset, length);
      await device.discard(offset, length);
    },
    flush: () => device.flush(),
    [Symbol.asyncDispose]: async () => undefined,
  };
}
