/**
 * A disk as the place where an image is kept: an NBD export that holds a qcow2 image.
 *
 * A disk ends where it ends, and an image may reach past that: its last cluster reads as zeros there, and a
 * write there has no space.
 */
import { checkRange } from '../checked.ts';
import type { BlockDevice, BlockSource, Extent, HostFile, HostSource } from '../device.ts';
import { DiskError } from '../errors.ts';

function readingHalf(source: BlockSource, path: string | undefined): HostSource {
  /** How many of the bytes lie inside the disk. */
  const inside = (offset: number, length: number): number => {
    checkRange(offset, length, Number.MAX_SAFE_INTEGER);
    return Math.max(Math.min(length, source.size - offset), 0);
  };
  const past = (offset: number, length: number): Extent => ({ offset, length, kind: 'zero', depth: 1 });
  return {
    size: source.size,
    path,
    allocated: async () => undefined,
    async read(into, offset) {
      const length = inside(offset, into.length);
      into.fill(0, length);
      if (length > 0) await source.read(length === into.length ? into : into.subarray(0, length), offset);
    },
    tryRead(into, offset) {
      const length = inside(offset, into.length);
      into.fill(0, length);
      return length === 0 || source.tryRead(length === into.length ? into : into.subarray(0, length), offset);
    },
    async extentAt(offset, limit) {
      const length = inside(offset, limit);
      return length > 0 ? source.extentAt(offset, length) : past(offset, limit);
    },
    tryExtentAt(offset, limit) {
      const length = inside(offset, limit);
      return length > 0 ? source.tryExtentAt(offset, length) : past(offset, limit);
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

/** `source` as a host source. `path` is what it is called in messages. Disposing of it leaves `source` open. */
export function hostSource(source: BlockSource, path?: string): HostSource {
  return readingHalf(source, path);
}

/**
 * `device` as a host file that cannot grow: what reaches past the end is `no-space`, and changes nothing.
 * Disposing of it leaves `device` open.
 */
export function hostFile(device: BlockDevice, path?: string): HostFile {
  const checkEnd = (end: number): void => {
    if (end > device.size) {
      throw new DiskError('no-space', `the disk ends at ${device.size} bytes and cannot grow`);
    }
  };
  return {
    ...readingHalf(device, path),
    caps: device.caps,
    async write(from, offset) {
      checkEnd(offset + from.length);
      await device.write(from, offset);
    },
    async zero(offset, length, how) {
      checkEnd(offset + length);
      await device.zero(offset, length, how);
    },
    async discard(offset, length) {
      const most = Math.min(length, device.size - offset);
      if (most > 0) await device.discard(offset, most);
    },
    flush: () => device.flush(),
    async truncate(size) {
      checkEnd(size);
      if (size < device.size) throw new DiskError('not-supported', 'a disk cannot be cut');
    },
  };
}
