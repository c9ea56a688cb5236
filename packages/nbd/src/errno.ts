/**
 * Our error codes as error numbers of the wire, and back.
 *
 * The protocol knows eight numbers. Two of them have one use each: ENOTSUP answers only a fast zero, and
 * EOVERFLOW only a length, so they are not in the table; the server names them where they belong.
 *
 * Spec: proto.md, "Error values"
 */
import type { ErrorCode } from '@strata/block';
import { NbdErrno } from './protocol/numbers.ts';

/** What a server answers for a failure of the disk. */
export const errnoOfCode = {
  corrupt: NbdErrno.EIO,
  limit: NbdErrno.EINVAL,
  'not-supported': NbdErrno.EINVAL,
  invalid: NbdErrno.EINVAL,
  'not-found': NbdErrno.EIO,
  exists: NbdErrno.EIO,
  denied: NbdErrno.EPERM,
  'read-only': NbdErrno.EPERM,
  'no-space': NbdErrno.ENOSPC,
  io: NbdErrno.EIO,
  protocol: NbdErrno.EIO,
  closed: NbdErrno.ESHUTDOWN,
  busy: NbdErrno.EIO,
  aborted: NbdErrno.EIO,
} as const satisfies Record<ErrorCode, number>;

/** What a client makes of a server's answer. Numbers the protocol does not know count as EINVAL. */
export function codeOfErrno(errno: number): ErrorCode {
  switch (errno) {
    case NbdErrno.EPERM:
      return 'denied';
    case NbdErrno.EIO:
    case NbdErrno.ENOMEM:
      return 'io';
    case NbdErrno.ENOSPC:
      return 'no-space';
    case NbdErrno.EOVERFLOW:
      return 'limit';
    case NbdErrno.ENOTSUP:
      return 'not-supported';
    case NbdErrno.ESHUTDOWN:
      return 'closed';
    default:
      return 'invalid';
  }
}

/** The name of an error number, for messages. */
export function errnoName(errno: number): string {
  const found = Object.entries(NbdErrno).find(([, value]) => value === errno);
  return found === undefined ? `error ${errno}` : found[0];
}
