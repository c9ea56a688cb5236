/**
 * A host file for crash and fault tests: it logs every change and every flush, lets a test decide when each
 * of them ends and whether it fails, and can tell which changes a power cut may have kept.
 *
 * A request is applied when it ends. A flush makes durable what had ended before it began, and only when it
 * ends itself.
 */
import type { Capabilities, DiskError, Extent, HostFile, HostRange, MemoryDevice } from '@strata/block';

/** A change of the file. `bytes` undefined: zeros. `cut`: everything from `offset` on is gone. */
export interface HostChange {
  readonly kind: 'change';
  readonly offset: number;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
  readonly cut: boolean;
  /** When it began; undefined end: it had not ended. Times are places in one order of all events. */
  readonly began: number;
  ended: number | undefined;
  readonly file: RecordingFile;
}

/** A flush that ended well. */
export interface HostFlush {
  readonly began: number;
  readonly ended: number;
}

/** Says of the next request whether it fails. */
export type Fault = (kind: 'write' | 'flush' | 'zero' | 'read') => DiskError | undefined;

const CAPS: Capabilities = Object.freeze({ blockSize: 1, zero: 'native', discard: 'native' });

/** What files that are recorded together share. */
interface Recording {
  clock: number;
  immediate: boolean;
  readonly waiting: (() => void)[];
}

/** A logging host file in memory. */
export class RecordingFile implements HostFile {
  readonly caps = CAPS;
  readonly path = undefined;
  readonly changes: HostChange[] = [];
  readonly flushes: HostFlush[] = [];
  readonly #memory: MemoryDevice;
  readonly #recording: Recording;
  fault: Fault = () => undefined;
  /** False: every read has to wait. */
  cached = true;
  /** False: nothing is copied from other hosts. */
  copies = true;
  /** For tests of the tests: flushes make nothing durable; only those that the test adds to `flushes` count. */
  ignoresFlushes = false;

  /** @param beside another file whose events stand in one order with this one's, and wait with them */
  constructor(memory: MemoryDevice, beside?: RecordingFile) {
    this.#memory = memory;
    this.#recording = beside !== undefined ? beside.#recording : { clock: 0, immediate: true, waiting: [] };
  }

  /** True: requests end as soon as they began. False: when `endOne` says so. */
  get immediate(): boolean {
    return this.#recording.immediate;
  }

  set immediate(is: boolean) {
    this.#recording.immediate = is;
  }

  get size(): number {
    return this.#memory.size;
  }

  /** A new place in the order of events. */
  tick(): number {
    return ++this.#recording.clock;
  }

  /** How many requests have not ended. */
  get waiting(): number {
    return this.#recording.waiting.length;
  }

  /** Ends the request number `index` of those waiting. */
  endOne(index: number): void {
    this.#recording.waiting.splice(index, 1)[0]?.();
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    return this.cached && this.#memory.tryRead(into, offset);
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    const error = this.fault('read');
    if (error !== undefined) throw error;
    await this.#memory.read(into, offset);
  }

  tryExtentAt(offset: number, limit: number): Extent | undefined {
    return this.#memory.tryExtentAt(offset, limit);
  }

  extentAt(offset: number, limit: number): Promise<Extent> {
    return this.#memory.extentAt(offset, limit);
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    // A Buffer's own `slice` would be a view of bytes that the caller uses again.
    const bytes = Uint8Array.from(from);
    return this.#change('write', offset, from.length, bytes, () => this.#memory.write(from, offset));
  }

  async copyFrom({ host, at, length }: HostRange, offset: number): Promise<boolean> {
    if (!this.copies) return false;
    const bytes = new Uint8Array(length);
    await host.read(bytes, at);
    await this.write(bytes, offset);
    return true;
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#change('zero', offset, length, undefined, () => this.#memory.zero(offset, length));
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#change('zero', offset, length, undefined, () => this.#memory.discard(offset, length));
  }

  async truncate(size: number): Promise<void> {
    const began = this.tick();
    await this.#memory.truncate(size);
    const length = Number.POSITIVE_INFINITY;
    const ended = this.tick();
    const cut = { kind: 'change', offset: size, length, bytes: undefined, cut: true } as const;
    this.changes.push({ ...cut, began, ended, file: this });
  }

  async flush(): Promise<void> {
    const began = this.tick();
    const error = this.fault('flush');
    await this.#turn();
    if (error !== undefined) throw error;
    if (!this.ignoresFlushes) this.flushes.push({ began, ended: this.tick() });
  }

  allocated(): Promise<number> {
    return this.#memory.allocated();
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #change(
    kind: 'write' | 'zero',
    offset: number,
    length: number,
    bytes: Uint8Array | undefined,
    applyNow: () => Promise<void>,
  ): Promise<void> {
    const error = this.fault(kind);
    const began = this.tick();
    const what = { kind: 'change', offset, length, bytes, cut: false } as const;
    const change: HostChange = { ...what, began, ended: undefined, file: this };
    this.changes.push(change);
    await this.#turn();
    if (error !== undefined) throw error;
    await applyNow();
    change.ended = this.tick();
  }

  async #turn(): Promise<void> {
    if (this.immediate) return;
    await new Promise<void>((resolve) => {
      this.#recording.waiting.push(resolve);
    });
  }
}

/** Runs `work` to its end while ending waiting requests in the order that `choose` picks. */
export async function drive<T>(
  file: RecordingFile,
  work: Promise<T>,
  choose: (count: number) => number,
): Promise<T> {
  let settled = false;
  const done = work.finally(() => {
    settled = true;
  });
  done.catch(() => undefined);
  while (!settled) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (file.waiting > 0) file.endOne(choose(file.waiting));
  }
  return done;
}
