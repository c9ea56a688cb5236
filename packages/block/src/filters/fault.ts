/** Makes chosen calls of a file fail, wait or stop half way: for tests of what happens then. */
import type { HostFile } from '../device.ts';
import type { FileCall } from './trace.ts';

/** A call that is about to be made. */
export interface PendingCall {
  /** How many calls of any kind came before. */
  readonly index: number;
  readonly call: FileCall;
  /** For `truncate` the new size; 0 for `flush`. */
  readonly offset: number;
  readonly length: number;
}

/** What is to go wrong. */
export interface Fault {
  /** The call waits for this first. */
  readonly wait?: Promise<unknown>;
  /** A write stores only so many of its bytes. Without `fail` it still resolves, as a lying disk would. */
  readonly cut?: number;
  /** The call rejects with this; but for `cut` it changes nothing. */
  readonly fail?: Error;
}

/**
 * `file`, of whose calls `decide` may spoil each. The `try` twins always answer not now, so that every read
 * can be spoiled. Disposing of it leaves `file` open.
 */
export function faulty(file: HostFile, decide: (call: PendingCall) => Fault | undefined): HostFile {
  let calls = 0;
  async function spoil<T>(
    call: FileCall,
    offset: number,
    length: number,
    run: (length: number) => Promise<T>,
  ): Promise<T> {
    const fault = decide({ index: calls++, call, offset, length });
    await fault?.wait;
    if (fault?.cut !== undefined) {
      const result = await run(Math.min(fault.cut, length));
      if (fault.fail) throw fault.fail;
      return result;
    }
    if (fault?.fail) throw fault.fail;
    return run(length);
  }
  return {
    get size() {
      return file.size;
    },
    path: file.path,
    caps: file.caps,
    allocated: () => file.allocated(),
    tryRead: () => false,
    tryExtentAt: () => undefined,
    read: (into, offset) => spoil('read', offset, into.length, () => file.read(into, offset)),
    extentAt: (offset, limit) => spoil('extent', offset, limit, () => file.extentAt(offset, limit)),
    write: (from, offset) =>
      spoil('write', offset, from.length, (length) => file.write(from.subarray(0, length), offset)),
    zero: (offset, length, how) => spoil('zero', offset, length, () => file.zero(offset, length, how)),
    discard: (offset, length) => spoil('discard', offset, length, () => file.discard(offset, length)),
    flush: () => spoil('flush', 0, 0, () => file.flush()),
    truncate: (size) => spoil('truncate', size, 0, () => file.truncate(size)),
    [Symbol.asyncDispose]: async () => {},
  };
}
