/**
 * Sending bytes of a file from the page cache to a socket, without copying them into our memory.
 *
 * `sendfile` waits for the disk where a page is not there, and has no flag against that. So `cachestat` is asked first
 * whether all pages are; where a kernel does not have it, or does not let us ask, nothing is sent in this way.
 *
 * Spec: Linux man-pages, sendfile(2); Linux source, mm/filemap.c, "cachestat"
 */
import type { Libc } from './libc.ts';

const pageSize = 4096;

/** The calls for one file. */
export interface FileSender {
  /** True if all bytes of the range lie in the page cache now. */
  holds(offset: number, length: number): boolean;
  /** Sends what the socket takes at once: how many bytes, 0 for none and for failures. */
  send(socket: number, offset: number, length: number): number;
}

/** For `fd`, as long as it is open. */
export function fileSender(libc: Libc, fd: number): FileSender {
  let refused = false;
  // What cachestat is asked and what it answers, in words of 64 bits.
  const range = new BigUint64Array(2);
  const answer = new BigUint64Array(5);
  const place = new BigUint64Array(1);
  const addresses = [range, answer, place].map(({ buffer }) => libc.address(buffer));
  const [rangeAddress = 0, answerAddress = 0, placeAddress = 0] = addresses;
  return {
    holds: (offset, length) => {
      if (refused) return false;
      range[0] = BigInt(offset);
      range[1] = BigInt(length);
      if (libc.cachestat(fd, rangeAddress, answerAddress) !== 0) {
        refused = true;
        return false;
      }
      const pages = Math.floor((offset + length - 1) / pageSize) - Math.floor(offset / pageSize) + 1;
      return Number(answer[0]) === pages;
    },
    send: (socket, offset, length) => {
      place[0] = BigInt(offset);
      return Math.max(0, libc.sendfile(socket, fd, placeAddress, length));
    },
  };
}
