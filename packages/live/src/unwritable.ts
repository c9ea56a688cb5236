/** A disk whose images are open for reading only, where one is called for that could be written. */
import { type BlockDevice, type BlockSource, DiskError } from '@strata/block';

/** `source`, which refuses every change with `read-only`. It stays the caller's. */
export function unwritable(source: BlockSource): BlockDevice {
  const refuse = () => Promise.reject(new DiskError('read-only', 'Block node is read-only'));
  return {
    size: source.size,
    caps: { blockSize: 1, zero: 'emulated', discard: 'ignored' },
    read: (into, offset) => source.read(into, offset),
    tryRead: (into, offset) => source.tryRead(into, offset),
    extentAt: (offset, limit) => source.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => source.tryExtentAt(offset, limit),
    write: refuse,
    zero: refuse,
    discard: refuse,
    flush: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
