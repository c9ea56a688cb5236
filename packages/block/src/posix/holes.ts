/**
 * Holes in files: where the data is, and how to make and fill holes.
 *
 * File systems may call a hole data; they never call data a hole. Where the host does not tell, everything
 * is data, and nothing can be punched.
 *
 * Spec: Linux man-pages, lseek(2) "Seeking file data and holes", fallocate(2)
 */
import { constants } from 'node:os';
import { errnoError } from '../errno.ts';
import { type Libc, libcError } from './libc.ts';

const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;

const { errno } = constants;

/** A run of bytes of a file that are data, or that are in a hole. `end` is exclusive. */
export interface Run {
  readonly data: boolean;
  readonly end: number;
}

/**
 * The run at `offset` of a file of `size` bytes. Undefined: this file system does not tell.
 *
 * @throws {DiskError} io
 */
export function runAt(libc: Libc, fd: number, offset: number, size: number): Run | undefined {
  const data = libc.lseek(fd, offset, SEEK_DATA);
  if (data < 0) {
    const code = libc.errno();
    if (code === errno.ENXIO) return { data: false, end: size };
    if (code === errno.EINVAL || code === errno.EOPNOTSUPP || code === errno.ENOTTY) return undefined;
    throw errnoError(code, { op: 'lseek', offset });
  }
  if (data > offset) return { data: false, end: data };
  const hole = libc.lseek(fd, offset, SEEK_HOLE);
  if (hole < 0 && libc.errno() !== errno.ENXIO) throw libcError(libc, 'lseek');
  return { data: true, end: hole > offset ? hole : size };
}

/** The end of a file or block device. @throws {DiskError} io */
export function seekEnd(libc: Libc, fd: number): number {
  const end = libc.lseek(fd, 0, SEEK_END);
  if (end < 0) throw libcError(libc, 'lseek');
  return end;
}

/** What `fallocate` answers where a file system, or this range of it, cannot do it. */
const UNABLE: readonly number[] = [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.ENODEV];

/** Runs `fallocate`. False: the file system is not able to. @throws {DiskError} no-space, io */
async function fallocate(libc: Libc, fd: number, mode: number, offset: number, length: number) {
  for (;;) {
    const code = await libc.fallocate(fd, mode, offset, length);
    if (code === 0) return true;
    if (UNABLE.includes(code)) return false;
    if (code !== errno.EINTR) throw errnoError(code, { op: 'fallocate', offset });
  }
}

/** Makes a hole; the file's size stays. False: it cannot be done here. @throws {DiskError} io */
export function punch(libc: Libc, fd: number, offset: number, length: number): Promise<boolean> {
  return fallocate(libc, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

/**
 * Makes a range zero with space reserved for it; past the end it extends the file. False: it cannot be
 * done here. @throws {DiskError} no-space, io
 */
export async function zeroAllocated(
  libc: Libc,
  fd: number,
  offset: number,
  length: number,
): Promise<boolean> {
  if (await fallocate(libc, fd, FALLOC_FL_ZERO_RANGE, offset, length)) return true;
  return (await punch(libc, fd, offset, length)) && (await fallocate(libc, fd, 0, offset, length));
}
