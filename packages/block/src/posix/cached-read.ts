/**
 * Reading from a file what is in the page cache, without ever waiting for the disk, and getting it there.
 *
 * `preadv2` with RWF_NOWAIT costs half a microsecond where a trip through the thread pool costs several,
 * and it fails with EAGAIN where it would have to wait. tmpfs does not know the flag, and never waits but
 * for swap, so it is read plainly.
 *
 * Spec: Linux man-pages, readv(2), posix_fadvise(2)
 */
import { constants } from 'node:os';
import type { Libc } from './libc.ts';

const RWF_NOWAIT = 8;

/** Reads `length` bytes at `offset` into the start of `into`: how many came, or -1 for none without waiting. */
export type CachedRead = (into: Uint8Array, length: number, offset: number) => number;

const addresses = new WeakMap<ArrayBufferLike, number>();

function addressOf(libc: Libc, buffer: ArrayBufferLike): number {
  let address = addresses.get(buffer);
  if (address === undefined) {
    address = libc.address(buffer);
    addresses.set(buffer, address);
  }
  return address;
}

/**
 * A reader for `fd`. Undefined where the host has no such call. `neverWaits`: the file lies in memory, and
 * may be read plainly where RWF_NOWAIT is refused.
 */
export function cachedRead(libc: Libc, fd: number, neverWaits: boolean): CachedRead | undefined {
  const { preadv2 } = libc;
  if (preadv2 === undefined) return undefined;
  let flags = RWF_NOWAIT;
  let refused = false;
  const vector = new Uint32Array(4);
  const vectorAddress = libc.address(vector.buffer);
  return function read(into, length, offset): number {
    if (refused) return -1;
    const address = addressOf(libc, into.buffer) + into.byteOffset;
    vector[0] = address;
    vector[1] = address / 0x1_0000_0000;
    vector[2] = length;
    vector[3] = length / 0x1_0000_0000;
    const got = preadv2(fd, vectorAddress, 1, offset, flags);
    if (got >= 0 || libc.errno() !== constants.errno.EOPNOTSUPP) return got;
    if (flags === 0 || !neverWaits) {
      refused = true;
      return -1;
    }
    flags = 0;
    return read(into, length, offset);
  };
}

const POSIX_FADV_WILLNEED = 3;
/** Linux reads ahead as much as a device takes at once, but at least this, and drops the rest of the advice. */
const ADVICE = 128 * 1024;

/** Starts to read a range into the page cache, and does not wait for it. It is advice: nobody hears if it fails. */
export function readAhead(libc: Libc, fd: number, offset: number, length: number): void {
  for (let at = 0; at < length; at += ADVICE) {
    const part = Math.min(ADVICE, length - at);
    if (libc.posix_fadvise(fd, offset + at, part, POSIX_FADV_WILLNEED) !== 0) return;
  }
}
