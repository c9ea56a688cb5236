/** A disk that keeps nothing: it reads as zeros and forgets what is written. For measuring and for dry runs. */
import { checkedDevice } from '../checked.ts';
import type { BlockDevice, Extent } from '../device.ts';

/** A null device of `size` bytes. */
export function nullDevice(size: number): BlockDevice {
  const extent = (offset: number, length: number): Extent => ({ offset, length, kind: 'zero', depth: 1 });
  const nothing = async (): Promise<void> => {};
  return checkedDevice({
    size,
    caps: { blockSize: 1, zero: 'native', discard: 'native' },
    tryRead: (into) => {
      into.fill(0);
      return true;
    },
    read: async (into) => {
      into.fill(0);
    },
    tryExtentAt: extent,
    extentAt: async (offset, limit) => extent(offset, limit),
    write: nothing,
    zero: nothing,
    discard: nothing,
    flush: nothing,
    [Symbol.asyncDispose]: nothing,
  });
}
