/**
 * The gate between a driver and its callers: drivers see only valid calls, callers only valid answers.
 *
 * Every `open...` function that hands out a disk puts it behind this gate. A call outside the disk is a
 * RangeError before the driver hears of it; a driver's answer that breaks the contract is a RangeError too,
 * because both are bugs of ours. After disposal everything fails with `closed`, and disposal waits for what
 * is still running.
 */
import type { BlockDevice, BlockSource, Capabilities, Extent, ZeroOptions } from './device.ts';
import { DiskError } from './errors.ts';

/** @throws {RangeError} unless the range lies inside a disk of `size` bytes. */
export function checkRange(offset: number, length: number, size: number): void {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
    throw new RangeError(`not a range: offset ${offset}, length ${length}`);
  }
  if (offset + length > size) {
    throw new RangeError(`range ${offset}+${length} is outside a disk of ${size} bytes`);
  }
}

function checkExtent(extent: Extent, offset: number, limit: number): Extent {
  const fits = extent.offset === offset && extent.length >= 1 && extent.length <= limit;
  if (!fits || (extent.depth === 0) !== (extent.kind === 'hole')) {
    throw new RangeError(`driver answered ${JSON.stringify(extent)} for ${offset}+${limit}`);
  }
  return extent;
}

class CheckedSource implements BlockSource {
  readonly size: number;
  readonly #inner: BlockSource;
  #running = 0;
  #disposed: Promise<void> | undefined;
  #idle: (() => void) | undefined;

  constructor(inner: BlockSource) {
    this.size = inner.size;
    if (!Number.isSafeInteger(this.size) || this.size < 0)
      throw new RangeError(`driver of size ${this.size}`);
    this.#inner = inner;
  }

  /** @throws {DiskError} closed; @throws {RangeError} */
  protected check(offset: number, length: number): void {
    if (this.#disposed !== undefined) throw new DiskError('closed', 'the disk is closed');
    checkRange(offset, length, this.size);
  }

  /** Counts a running call until it settles, without putting a promise between it and the caller. */
  protected track<T>(call: Promise<T>): Promise<T> {
    this.#running++;
    call.then(this.#settled, this.#settled);
    return call;
  }

  readonly #settled = (): void => {
    if (--this.#running === 0) this.#idle?.();
  };

  async read(into: Uint8Array, offset: number): Promise<void> {
    this.check(offset, into.length);
    if (into.length > 0) await this.track(this.#inner.read(into, offset));
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    this.check(offset, into.length);
    return into.length === 0 || this.#inner.tryRead(into, offset);
  }

  async extentAt(offset: number, limit: number): Promise<Extent> {
    this.check(offset, 1);
    const most = Math.min(limit, this.size - offset);
    if (!(most >= 1)) throw new RangeError(`extent of at most ${limit} bytes`);
    return checkExtent(await this.track(this.#inner.extentAt(offset, most)), offset, most);
  }

  tryExtentAt(offset: number, limit: number): Extent | undefined {
    this.check(offset, 1);
    const most = Math.min(limit, this.size - offset);
    const extent = this.#inner.tryExtentAt(offset, most);
    return extent && checkExtent(extent, offset, most);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#inner[Symbol.asyncDispose]();
  }
}

class CheckedDevice extends CheckedSource implements BlockDevice {
  readonly caps: Capabilities;
  readonly #inner: BlockDevice;

  constructor(inner: BlockDevice) {
    super(inner);
    this.#inner = inner;
    this.caps = Object.freeze({ ...inner.caps });
  }

  async write(from: Uint8Array, offset: number): Promise<void> {
    this.check(offset, from.length);
    if (from.length > 0) await this.track(this.#inner.write(from, offset));
  }

  async zero(offset: number, length: number, how?: ZeroOptions): Promise<void> {
    this.check(offset, length);
    if (length > 0) await this.track(this.#inner.zero(offset, length, how));
  }

  async discard(offset: number, length: number): Promise<void> {
    this.check(offset, length);
    if (length > 0) await this.track(this.#inner.discard(offset, length));
  }

  async flush(): Promise<void> {
    this.check(0, 0);
    await this.track(this.#inner.flush());
  }
}

/** `source` behind the gate. Disposing of the result disposes of `source`. */
export function checkedSource(source: BlockSource): BlockSource {
  return new CheckedSource(source);
}

/** `device` behind the gate. Disposing of the result disposes of `device`. */
export function checkedDevice(device: BlockDevice): BlockDevice {
  return new CheckedDevice(device);
}
