/** Failures as clients are told them. */
import { isDiskError } from '@strata/block';
import { errnoOfCode } from '../errno.ts';
import { CommandFlag, NbdErrno } from '../protocol/numbers.ts';
import type { RequestHeader } from '../protocol/request.ts';
import { printable } from '../protocol/text.ts';
import { maxErrorText } from './limits.ts';
import type { Refusal } from './validate.ts';

/** For requests that come while the server is being stopped. */
export const stopping: Refusal = { errno: NbdErrno.ESHUTDOWN, text: 'the server is being stopped' };

/** For a block status of contexts that were not selected. */
export const unknownContexts: Refusal = {
  errno: NbdErrno.EINVAL,
  text: 'unknown or repeated metadata contexts',
};

/**
 * What a client is told when its request failed with `error`. A fast zero that would be slow has a number of
 * its own. A bug of ours is not spelt out to a stranger; `report` hears of it.
 */
export function refusalOf(error: unknown, request: RequestHeader, report: (error: unknown) => void): Refusal {
  if (!isDiskError(error)) {
    report(error);
    return { errno: NbdErrno.EIO, text: 'internal error' };
  }
  const fast = (request.flags & CommandFlag.fastZero) !== 0 && error.code === 'not-supported';
  const errno = fast ? NbdErrno.ENOTSUP : errnoOfCode[error.code];
  return { errno, text: printable(error.message, maxErrorText) };
}
