/** A range of a disk as a disk of its own: a partition, a payload inside a container. */
import { checkedDevice, checkedSource, checkRange } from '../checked.ts';
import type { BlockDevice, BlockSource, Extent } from '../device.ts';

function readingHalf(source: BlockSource, start: number, size: number): BlockSource {
  checkRange(start, size, source.size);
  const moved = (extent: Extent): Extent => ({ ...extent, offset: extent.offset - start });
  return {
    size,
    read: (into, offset) => source.read(into, start + offset),
    tryRead: (into, offset) => source.tryRead(into, start + offset),
    extentAt: async (offset, limit) => moved(await source.extentAt(start + offset, limit)),
    tryExtentAt: (offset, limit) => {
      const extent = source.tryExtentAt(start + offset, limit);
      return extent && moved(extent);
    },
    tryDirect: (offset, length) => {
      const send = source.tryDirect?.(start + offset, length);
      return send && ((socket, at, most) => send(socket, start + at, most));
    },
    placeAt: async (offset, limit) => source.placeAt?.(start + offset, limit),
    [Symbol.asyncDispose]: async () => {},
  };
}

/**
 * The `size` bytes of `source` from `start`. Disposing of the window leaves `source` open.
 *
 * @throws {RangeError} outside `source`
 */
export function sourceWindow(source: BlockSource, start: number, size: number): BlockSource {
  return checkedSource(readingHalf(source, start, size));
}

/**
 * The same for writing.
 *
 * @throws {RangeError} outside `device`
 */
export function deviceWindow(device: BlockDevice, start: number, size: number): BlockDevice {
  return checkedDevice({
    ...readingHalf(device, start, size),
    caps: device.caps,
    write: (from, offset) => device.write(from, start + offset),
    copyFrom: async (from, offset) => (await device.copyFrom?.(from, start + offset)) ?? false,
    zero: (offset, length, how) => device.zero(start + offset, length, how),
    discard: (offset, length) => device.discard(start + offset, length),
    flush: () => device.flush(),
  });
}
