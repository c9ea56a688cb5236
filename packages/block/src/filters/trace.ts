/** Tells somebody of every call that a file gets: for tests of what is done in which order. */
import type { HostFile } from '../device.ts';

/** The calls that are told of. The `try` twins are not: they change nothing and are made at will. */
export type FileCall = 'read' | 'extent' | 'write' | 'zero' | 'discard' | 'flush' | 'truncate';

/** A call began or ended. */
export interface TraceEvent {
  /** Alike for the beginning and the end of one call; counted from 0. */
  readonly index: number;
  readonly phase: 'begin' | 'end' | 'error';
  readonly call: FileCall;
  /** For `truncate` the new size; 0 for `flush`. */
  readonly offset: number;
  readonly length: number;
  /** What is written; valid only during the event. */
  readonly bytes?: Uint8Array;
  readonly error?: unknown;
}

/** `file`, with every call reported to `tell`. Disposing of it leaves `file` open. */
export function traced(file: HostFile, tell: (event: TraceEvent) => void): HostFile {
  let calls = 0;
  async function around<T>(
    call: FileCall,
    offset: number,
    length: number,
    run: () => Promise<T>,
    bytes?: Uint8Array,
  ): Promise<T> {
    const event = { index: calls++, call, offset, length };
    tell({ ...event, phase: 'begin', ...(bytes && { bytes }) });
    try {
      const result = await run();
      tell({ ...event, phase: 'end' });
      return result;
    } catch (error) {
      tell({ ...event, phase: 'error', error });
      throw error;
    }
  }
  return {
    get size() {
      return file.size;
    },
    path: file.path,
    caps: file.caps,
    allocated: () => file.allocated(),
    tryRead: (into, offset) => file.tryRead(into, offset),
    tryExtentAt: (offset, limit) => file.tryExtentAt(offset, limit),
    read: (into, offset) => around('read', offset, into.length, () => file.read(into, offset)),
    extentAt: (offset, limit) => around('extent', offset, limit, () => file.extentAt(offset, limit)),
    write: (from, offset) => around('write', offset, from.length, () => file.write(from, offset), from),
    zero: (offset, length, how) => around('zero', offset, length, () => file.zero(offset, length, how)),
    discard: (offset, length) => around('discard', offset, length, () => file.discard(offset, length)),
    flush: () => around('flush', 0, 0, () => file.flush()),
    truncate: (size) => around('truncate', size, 0, () => file.truncate(size)),
    [Symbol.asyncDispose]: async () => {},
  };
}
