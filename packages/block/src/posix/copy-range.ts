/**
 * Copying from one file to another inside the kernel, which may share the blocks instead of copying them.
 *
 * Spec: Linux man-pages, copy_file_range(2)
 */
import { constants } from 'node:os';
import { errnoError } from '../errno.ts';
import type { Libc } from './libc.ts';

/** Errors that say that these two files cannot be copied in this way, and nothing of the files themselves. */
const CANNOT: ReadonlySet<number> = new Set(
  ['EXDEV', 'ENOSYS', 'EOPNOTSUPP', 'EINVAL', 'EBADF', 'ETXTBSY', 'EPERM'].map(
    (name) => constants.errno[name as keyof typeof constants.errno],
  ),
);

/** A position in an open file. */
export interface FilePosition {
  readonly fd: number;
  readonly at: number;
}

/**
 * Copies `length` bytes. False: it cannot be done here, or the source ends before; any part may have been copied.
 *
 * @throws {DiskError} io, no-space
 */
export async function copyRange(
  libc: Libc,
  from: FilePosition,
  to: FilePosition,
  length: number,
): Promise<boolean> {
  for (let done = 0; done < length; ) {
    const got = await libc.copyFileRange(from.fd, from.at + done, to.fd, to.at + done, length - done);
    if (got === 0) return false;
    if (got > 0) done += got;
    else if (CANNOT.has(-got)) return false;
    else if (-got !== constants.errno.EINTR) throw errnoError(-got, { op: 'copy_file_range' });
  }
  return true;
}
