/** A host file for tests of the format: the plainest one there can be, on node:fs. */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import type { Extent, HostFile } from '@strata/block';

/** Opens `path`, which is created if it is not there. `reads` counts the bytes that were asked for. */
export function openHost(path: string): HostFile & { readonly bytesRead: number } {
  const fd = openSync(path, 'a+');
  closeSync(fd);
  const file = openSync(path, 'r+');
  let bytesRead = 0;
  const tryRead = (into: Uint8Array, offset: number): boolean => {
    bytesRead += into.length;
    into.fill(0);
    readSync(file, into, 0, into.length, offset);
    return true;
  };
  const extent = (offset: number, limit: number): Extent => ({
    offset,
    length: limit,
    kind: 'data',
    depth: 1,
  });
  const write = (from: Uint8Array, offset: number): void => {
    if (writeSync(file, from, 0, from.length, offset) !== from.length) throw new Error('short write');
  };
  return {
    path,
    caps: { blockSize: 1, zero: 'emulated', discard: 'ignored' },
    get size() {
      return fstatSync(file).size;
    },
    get bytesRead() {
      return bytesRead;
    },
    tryRead,
    read: async (into, offset) => {
      tryRead(into, offset);
    },
    tryExtentAt: extent,
    extentAt: async (offset, limit) => extent(offset, limit),
    write: async (from, offset) => write(from, offset),
    zero: async (offset, length) => write(new Uint8Array(length), offset),
    discard: async () => undefined,
    flush: async () => fsyncSync(file),
    truncate: async (size) => ftruncateSync(file, size),
    allocated: async () => fstatSync(file).blocks * 512,
    [Symbol.asyncDispose]: async () => closeSync(file),
  };
}
