/**
 * A file or block device of the host.
 *
 * Cached bytes are read at once in the event loop; all else goes through the thread pool. `size` is the end
 * that settled calls have made; locks keep other processes from changing it. `zero` past the end never
 * truncates, because a write in flight may already have extended the file further.
 */
import { type BigIntStats, close, fdatasync, fstat, fsync, ftruncate } from 'node:fs';
import { checkRange } from '../checked.ts';
import type {
  Capabilities,
  DirectSend,
  Extent,
  HostFile,
  HostRange,
  HostSource,
  ZeroOptions,
} from '../device.ts';
import { coalescedFlush } from '../durability.ts';
import { hostError } from '../errno.ts';
import { DiskError } from '../errors.ts';
import { Lifetime } from '../lifetime.ts';
import { type CachedRead, cachedRead, readAhead } from '../posix/cached-read.ts';
import { copyRange } from '../posix/copy-range.ts';
import { FileExtents } from '../posix/file-extents.ts';
import { punch, zeroAllocated } from '../posix/holes.ts';
import type { Libc } from '../posix/libc.ts';
import { changeLock, LOCKS, type LockMode } from '../posix/locks.ts';
import { type FileSender, fileSender } from '../posix/send-file.ts';
import { type Done, readAll, writeAll } from '../posix/transfer.ts';
import { alignDown } from '../size.ts';
import { settledTimes, stampOf } from './file-times.ts';

const ZEROS = new Uint8Array(1 << 20);
/** Reads from this length on are started before they wait for a thread. */
const LONG_READ = 1 << 20;

/** A file that was opened for reading. */
export interface FileSource extends HostSource {
  readonly path: string;
  /** Alike exactly for two openings of one file, whatever the names. */
  readonly identity: string;
  /**
   * Takes the locks of `mode` and gives up those held before. If it throws, nothing has changed. Where the
   * host has no such locks (anything but 64-bit Linux) it does nothing.
   *
   * @throws {DiskError} busy in QEMU's words, io
   */
  lock(mode: LockMode): void;
}

/** What was found out about a file when it was opened. */
export interface OpenedFile {
  readonly fd: number;
  readonly path: string;
  readonly identity: string;
  readonly kind: 'file' | 'block device';
  readonly size: number;
  /** Undefined: the host does not offer what node:fs lacks. */
  readonly libc: Libc | undefined;
  /** `memory`: reading never waits for a disk. `remote`: even asking for holes may wait. */
  readonly medium: 'disk' | 'memory' | 'remote';
  /** Makes the file's name durable. Undefined: it is. */
  readonly syncFolder: (() => Promise<void>) | undefined;
}

/** Made by `openFile` and `createFile`; a file that was opened for reading is seen through `FileSource` only. */
export class FileDevice implements HostFile, FileSource {
  readonly caps: Capabilities;
  readonly #file: OpenedFile;
  readonly #libc: Libc | undefined;
  readonly #cachedRead: CachedRead | undefined;
  #sender: FileSender | undefined;
  readonly #extents: FileExtents;
  readonly #flush: () => Promise<void>;
  readonly #lifetime = new Lifetime();
  #size: number;
  #mode: LockMode = LOCKS.none;
  #nameIsDurable: boolean;
  constructor(file: OpenedFile) {
    const native = file.libc !== undefined;
    this.caps = Object.freeze({
      blockSize: 4096,
      zero: native ? 'native' : 'emulated',
      discard: native ? 'native' : 'ignored',
    });
    this.#file = file;
    this.#libc = file.libc;
    this.#size = file.size;
    this.#extents = new FileExtents(file.libc, file.fd);
    this.#nameIsDurable = file.syncFolder === undefined;
    this.#cachedRead = file.libc && cachedRead(file.libc, file.fd, file.medium === 'memory');
    this.#flush = coalescedFlush(() => this.#sync());
  }

  get size(): number {
    return this.#size;
  }

  get path(): string {
    return this.#file.path;
  }

  get identity(): string {
    return this.#file.identity;
  }

  /** Its size is given and cannot be changed. */
  get isBlockDevice(): boolean {
    return this.#file.kind === 'block device';
  }

  lock(mode: LockMode): void {
    this.#lifetime.check();
    if (this.#libc === undefined) return;
    try {
      changeLock(this.#libc, this.#file.fd, this.#mode, mode);
    } catch (error) {
      throw hostError(error, { path: this.path });
    }
    this.#mode = mode;
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    this.#lifetime.check();
    checkRange(offset, into.length, Number.MAX_SAFE_INTEGER);
    const inside = Math.min(into.length, this.#size - offset);
    if (inside > 0) {
      if (this.#cachedRead === undefined) return false;
      if (this.#cachedRead(into, inside, offset) !== inside) {
        if (inside >= LONG_READ) this.#startReading(offset, inside);
        return false;
      }
    }
    if (inside < into.length) into.fill(0, Math.max(inside, 0));
    return true;
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    return this.#transfer('read', into, offset, (done) => {
      const inside = Math.max(Math.min(into.length, this.#size - offset), 0);
      into.fill(0, inside);
      readAll(this.#file.fd, into, inside, offset, done);
    });
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    return this.#transfer('write', from, offset, (done) => {
      writeAll(this.#file.fd, from, from.length, offset, (error) => {
        if (!error && from.length > 0) this.#grewTo(offset + from.length);
        done(error);
      });
    });
  }

  async placeAt(offset: number, limit: number): Promise<HostRange | undefined> {
    const length = Math.min(limit, this.#size - offset);
    return length > 0 ? { host: this, at: offset, length } : undefined;
  }

  async copyFrom({ host, at, length }: HostRange, offset: number): Promise<boolean> {
    const libc = this.#libc;
    if (libc === undefined || !(host instanceof FileDevice)) return false;
    const from = { fd: host.#file.fd, at };
    const to = { fd: this.#file.fd, at: offset };
    let done = false;
    host.#lifetime.enter();
    try {
      await this.#change('copy_file_range', offset, length, async () => {
        done = await copyRange(libc, from, to, length);
        if (done) this.#grewTo(offset + length);
      });
    } finally {
      host.#lifetime.leave();
    }
    return done;
  }

  tryExtentAt(offset: number, limit: number): Extent | undefined {
    if (this.#file.medium === 'remote' && !this.#extents.knows(offset)) return undefined;
    return this.#extent(offset, limit);
  }

  async extentAt(offset: number, limit: number): Promise<Extent> {
    return this.#extent(offset, limit);
  }

  tryDirect(offset: number, length: number): DirectSend | undefined {
    this.#lifetime.check();
    checkRange(offset, length, Number.MAX_SAFE_INTEGER);
    const { fd, kind, libc } = this.#file;
    if (libc === undefined || kind !== 'file' || length === 0 || offset + length > this.#size)
      return undefined;
    this.#sender ??= fileSender(libc, fd);
    return this.#sender.holds(offset, length) ? this.#send : undefined;
  }

  readonly #send: DirectSend = (socket, offset, length) => {
    this.#lifetime.check();
    return this.#sender?.send(socket, offset, Math.min(length, this.#size - offset)) ?? 0;
  };

  zero(offset: number, length: number, how: ZeroOptions = {}): Promise<void> {
    return this.#change('zero', offset, length, async () => {
      if (how.allocate) await this.#zeroAllocated(offset, length, how);
      else await this.#zero(offset, length, how);
      this.#grewTo(offset + length);
    });
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#change('discard', offset, length, async () => {
      const inside = Math.min(length, this.#size - offset);
      if (this.#libc && inside > 0) await punch(this.#libc, this.#file.fd, offset, inside);
    });
  }

  truncate(size: number): Promise<void> {
    return this.#change('truncate', size, 1, async () => {
      if (this.isBlockDevice) {
        if (size > this.#size) throw new DiskError('no-space', 'Cannot grow device files');
        if (size < this.#size) throw new DiskError('not-supported', 'Cannot resize device files');
        return;
      }
      await callback((done) => ftruncate(this.#file.fd, size, done));
      this.#size = size;
    });
  }

  flush(): Promise<void> {
    return this.#change('flush', 0, 1, this.#flush);
  }

  allocated(): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      this.#lifetime.check();
      fstat(this.#file.fd, (error, stat) => {
        if (error) reject(hostError(error, { path: this.path, op: 'fstat' }));
        else resolve(stat.blocks === undefined ? undefined : stat.blocks * 512);
      });
    });
  }

  stamp(): Promise<string | undefined> {
    // The times of a device's name tell nothing of the device.
    return this.#looking(async () => (this.isBlockDevice ? undefined : stampOf(await this.#stat())));
  }

  seal(): Promise<string | undefined> {
    return this.#looking(async () => {
      if (this.isBlockDevice) return undefined;
      await this.flush();
      // fdatasync leaves out the times if nothing else needs them.
      await callback((done) => fsync(this.#file.fd, done));
      return stampOf(await settledTimes(() => this.#stat()));
    });
  }

  async #looking<T>(look: () => Promise<T>): Promise<T> {
    this.#lifetime.enter();
    try {
      return await look();
    } catch (error) {
      throw hostError(error, { path: this.path, op: 'fstat' });
    } finally {
      this.#lifetime.leave();
    }
  }

  #stat(): Promise<BigIntStats> {
    return new Promise((resolve, reject) => {
      fstat(this.#file.fd, { bigint: true }, (error, stat) => (error ? reject(error) : resolve(stat)));
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifetime.end(async () => {
      try {
        await callback((done) => close(this.#file.fd, done));
      } catch (error) {
        throw hostError(error, { path: this.path, op: 'close' });
      }
    });
  }

  /** A promise around a call with a callback and nothing else: this is the hot path. */
  #transfer(op: string, bytes: Uint8Array, offset: number, start: (done: Done) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      checkRange(offset, bytes.length, Number.MAX_SAFE_INTEGER);
      this.#lifetime.enter();
      start((error) => {
        this.#lifetime.leave();
        if (error) reject(hostError(error, { path: this.path, offset, op }));
        else resolve();
      });
    });
  }

  async #change(op: string, offset: number, length: number, run: () => Promise<void>): Promise<void> {
    checkRange(offset, length, Number.MAX_SAFE_INTEGER);
    if (length === 0) return this.#lifetime.check();
    this.#lifetime.enter();
    try {
      await run();
    } catch (error) {
      throw hostError(error, { path: this.path, op, ...(op !== 'flush' && { offset }) });
    } finally {
      if (op !== 'flush') this.#extents.forget();
      this.#lifetime.leave();
    }
  }

  #grewTo(end: number): void {
    if (end > this.#size) this.#size = end;
  }

  /** The disk works while the read that follows waits for its turn in the thread pool, behind writes for one. */
  #startReading(offset: number, length: number): void {
    if (this.#libc !== undefined && this.#file.medium === 'disk')
      readAhead(this.#libc, this.#file.fd, offset, length);
  }

  #extent(offset: number, limit: number): Extent {
    this.#lifetime.check();
    checkRange(offset, 1, Number.MAX_SAFE_INTEGER);
    if (!(limit >= 1)) throw new RangeError(`extent of at most ${limit} bytes`);
    try {
      return this.#extents.at(offset, limit, this.#size);
    } catch (error) {
      throw hostError(error, { path: this.path });
    }
  }

  async #zero(offset: number, length: number, how: ZeroOptions): Promise<void> {
    const { fd } = this.#file;
    const end = offset + length;
    const old = Math.min(end, this.#size);
    if (offset < old && !(this.#libc && (await punch(this.#libc, fd, offset, old - offset)))) {
      await this.#writeZeros(offset, old - offset, how);
    }
    if (end <= old) return;
    await callback((done) => writeAll(fd, ZEROS, 1, end - 1, done));
    // The block that the old end cut is given back as a whole, and so is the one just written.
    const start = Math.max(offset, alignDown(old, this.caps.blockSize));
    if (this.#libc) await punch(this.#libc, fd, start, end - start);
  }

  async #zeroAllocated(offset: number, length: number, how: ZeroOptions): Promise<void> {
    if (this.#libc && (await zeroAllocated(this.#libc, this.#file.fd, offset, length))) return;
    await this.#writeZeros(offset, length, how);
  }

  async #writeZeros(offset: number, length: number, how: ZeroOptions): Promise<void> {
    if (how.fast) throw new DiskError('not-supported', 'zeros would have to be written out here');
    for (let at = 0; at < length; at += ZEROS.length) {
      const part = Math.min(ZEROS.length, length - at);
      await callback((done) => writeAll(this.#file.fd, ZEROS, part, offset + at, done));
    }
  }

  async #sync(): Promise<void> {
    try {
      await callback((done) => fdatasync(this.#file.fd, done));
      if (!this.#nameIsDurable) await this.#file.syncFolder?.();
      this.#nameIsDurable = true;
    } catch (error) {
      throw hostError(error, { path: this.path, op: 'fdatasync' });
    }
  }
}

function callback(call: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error ? reject(error) : resolve()));
  });
}
