/**
 * The one error class of the libraries, and its codes.
 *
 * Three families never mix: `DiskError` is what the world did (an image, a peer, the host, a policy, a
 * request that contradicts itself), `RangeError` and `TypeError` are our own bugs, and the user's command
 * line belongs to the `img` package. Callers switch on `code`; the message is for people: what, where
 * (hexadecimal positions in a file, decimal sizes), what was expected. It does not repeat the path, which
 * stands in `context`.
 */

/** What went wrong, for a program to switch on. */
export type ErrorCode =
  /** The bytes break the format's specification. */
  | 'corrupt'
  /** Legal by the specification, but beyond what we accept. */
  | 'limit'
  /** A feature or request that is not there. */
  | 'not-supported'
  /** Options that contradict each other or the format. */
  | 'invalid'
  /** The file, export, snapshot or bitmap does not exist. */
  | 'not-found'
  /** It exists already and must not be replaced. */
  | 'exists'
  /** The gate refused a reference, or the host refused access. */
  | 'denied'
  /** A write to what was opened or exported for reading. */
  | 'read-only'
  /** The host, the image or the device is full. */
  | 'no-space'
  /** The host failed; `cause` says how. */
  | 'io'
  /** The peer broke the protocol. */
  | 'protocol'
  /** Used after it was disposed of, or the connection ended. */
  | 'closed'
  /** Locked by another process. */
  | 'busy'
  /** The caller's signal ended it. */
  | 'aborted';

/** Where it went wrong. Everything is optional; what is known is given. */
export interface ErrorContext {
  /** The file or URI. */
  readonly path?: string;
  /** Bytes from the start of the file or the disk. */
  readonly offset?: number;
  /** What was being done: a system call, a request, a step. */
  readonly op?: string;
  /** Document and section title of the rule that was broken. */
  readonly spec?: string;
}

const brand = Symbol.for('strata.DiskError');

/** A failure that came from outside this program. */
export class DiskError extends Error {
  override readonly name = 'DiskError';
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  /** @param options `cause` is the error underneath; everything else is context. */
  constructor(code: ErrorCode, message: string, options: ErrorContext & { readonly cause?: unknown } = {}) {
    const { cause, ...context } = options;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.context = context;
  }

  get [brand](): true {
    return true;
  }
}

/**
 * True if `error` is a DiskError, of one of `codes` if any are named. It holds across duplicate copies of
 * this package, where `instanceof` does not.
 */
export function isDiskError(error: unknown, ...codes: readonly ErrorCode[]): error is DiskError {
  if (typeof error !== 'object' || error === null || !(brand in error)) return false;
  return codes.length === 0 || codes.includes((error as DiskError).code);
}

/** The same failure with more context; what the error already knew stays. */
export function withContext(error: unknown, context: ErrorContext): unknown {
  if (!isDiskError(error)) return error;
  return new DiskError(error.code, error.message, { ...context, ...error.context, cause: error.cause });
}

/** What a long transfer does to a disk. */
export type TransferStep = 'map' | 'read' | 'write';

/**
 * The same failure as a transfer sees it: `op` is the step, `offset` the place on the disk. Where in a file it
 * was stands in `cause`.
 */
export function inStep(error: unknown, op: TransferStep, offset: number): unknown {
  if (!isDiskError(error)) return error;
  return new DiskError(error.code, error.message, { ...error.context, op, offset, cause: error });
}
