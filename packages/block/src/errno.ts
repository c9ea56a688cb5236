/**
 * What an errno of the host means: a code for programs and the C library's sentence for people.
 *
 * Scripts match on "No such file or directory", which is glibc's wording and not Node's. What the table
 * does not know gets Node's text.
 */
import { constants } from 'node:os';
import { getSystemErrorMap, getSystemErrorName } from 'node:util';
import { DiskError, type ErrorCode, type ErrorContext, isDiskError, withContext } from './errors.ts';

/** Names of errno values that mean something else than `io`. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EFBIG: 'no-space',
  ENOENT: 'not-found',
  ENOTDIR: 'not-found',
  EEXIST: 'exists',
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'read-only',
  EISDIR: 'not-supported',
  ENXIO: 'not-supported',
  ENOTSUP: 'not-supported',
  EOPNOTSUPP: 'not-supported',
  EBUSY: 'busy',
  ETXTBSY: 'busy',
};

/** glibc's strerror, for what file calls answer. */
const SENTENCES: Readonly<Record<string, string>> = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EINTR: 'Interrupted system call',
  EIO: 'Input/output error',
  ENXIO: 'No such device or address',
  EBADF: 'Bad file descriptor',
  EAGAIN: 'Resource temporarily unavailable',
  ENOMEM: 'Cannot allocate memory',
  EACCES: 'Permission denied',
  EFAULT: 'Bad address',
  EBUSY: 'Device or resource busy',
  EEXIST: 'File exists',
  EXDEV: 'Invalid cross-device link',
  ENODEV: 'No such device',
  ENOTDIR: 'Not a directory',
  EISDIR: 'Is a directory',
  EINVAL: 'Invalid argument',
  ENFILE: 'Too many open files in system',
  EMFILE: 'Too many open files',
  ENOTTY: 'Inappropriate ioctl for device',
  ETXTBSY: 'Text file busy',
  EFBIG: 'File too large',
  ENOSPC: 'No space left on device',
  ESPIPE: 'Illegal seek',
  EROFS: 'Read-only file system',
  ENAMETOOLONG: 'File name too long',
  ENOLCK: 'No locks available',
  ENOSYS: 'Function not implemented',
  ENOTEMPTY: 'Directory not empty',
  ELOOP: 'Too many levels of symbolic links',
  EOVERFLOW: 'Value too large for defined data type',
  ENOTSUP: 'Operation not supported',
  EOPNOTSUPP: 'Operation not supported',
  ETIMEDOUT: 'Connection timed out',
  ECONNREFUSED: 'Connection refused',
  ECONNRESET: 'Connection reset by peer',
  EHOSTUNREACH: 'No route to host',
  ENETUNREACH: 'Network is unreachable',
  ESTALE: 'Stale file handle',
  EDQUOT: 'Disk quota exceeded',
};

/** libuv has no name for these. */
const EXTRA_NAMES: ReadonlyMap<number, string> = new Map([
  [constants.errno.EDQUOT, 'EDQUOT'],
  [constants.errno.ESTALE, 'ESTALE'],
]);

/** The name of a positive errno of this host, such as `ENOSPC`. */
export function errnoName(errno: number): string {
  return EXTRA_NAMES.get(errno) ?? getSystemErrorName(-errno);
}

/** The C library's sentence for the name of an errno: `No space left on device`. */
export function errnoSentence(name: string): string {
  const known = SENTENCES[name];
  if (known !== undefined) return known;
  for (const [own, text] of getSystemErrorMap().values()) {
    if (own === name) return text;
  }
  return `Unknown error ${name}`;
}

/** A failure that a system call reported by its errno (positive). */
export function errnoError(errno: number, context: ErrorContext = {}): DiskError {
  const name = errnoName(errno);
  return new DiskError(CODES[name] ?? 'io', errnoSentence(name), context);
}

/**
 * An error that Node threw, as a DiskError. A DiskError only gains context. What carries no errno is a bug
 * of ours and comes back as it is.
 */
export function hostError(error: unknown, context: ErrorContext = {}): unknown {
  if (isDiskError(error)) return withContext(error, context);
  const name = (error as NodeJS.ErrnoException | undefined)?.code;
  const errno = (error as NodeJS.ErrnoException | undefined)?.errno;
  if (typeof name !== 'string' || typeof errno !== 'number') return error;
  const known = name.startsWith('Unknown system error') ? errnoName(-errno) : name;
  return new DiskError(CODES[known] ?? 'io', errnoSentence(known), { ...context, cause: error });
}
