/**
 * The gate between a driver and its callers: drivers see only valid calls, callers only valid answers.
 *
 * Every `open...` function that hands out a disk puts it behind this gate. A call outside the disk is a
 * RangeError before the driver hears of it; a driver's answer that breaks the contract is a RangeError too,
 * because both are bugs of ours. After disposal everything fails with `closed`, and disposal waits for what
 * is still running.
 */
import type {
  BlockDevice,
  BlockSource,
  Capabilities,
  DirectSend,
  Extent,
  HostRange,
  ZeroOptions,
} from './device.ts';
import { Lifetime } from './lifetime.ts';

/** @throws {RangeError} unless the range lies inside a disk of `size` bytes. */
export function checkRange(offset: number, length: number, size: number): void {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
    throw new RangeError(`not a range: offset ${offset}, length ${length}`);
  }
  if (offset + length > size) {
    throw new RangeError(`range ${offset}+${length} is outside a disk of ${size} bytes`);
  }
}

/** The most bytes an extent at `offset` may have. @throws {RangeError} */
function extentLimit(offset: number, limit: number, size: number): number {
  checkRange(offset, 1, size);
  if (!Number.isSafeInteger(limit) || limit < 1) throw new RangeError(`extent of at most ${limit} bytes`);
  return Math.min(limit, size - offset);
}

function checkExtent(extent: Extent, offset: number, limit: number): Extent {
  const fits = extent.offset === offset && Number.isSafeInteger(extent.length);
  if (
    !fits ||
    extent.length < 1 ||
    extent.length > limit ||
    (extent.depth === 0) !== (extent.kind === 'hole')
  ) {
    throw new RangeError(`driver answered ${JSON.stringify(extent)} for ${offset}+${limit}`);
  }
  return extent;
}

class CheckedSource implements BlockSource {
  readonly size: number;
  readonly #inner: BlockSource;
  protected readonly lifetime = new Lifetime();

  constructor(inner: BlockSource) {
    this.size = inner.size;
    if (!Number.isSafeInteger(this.size) || this.size < 0)
      throw new RangeError(`driver of size ${this.size}`);
    this.#inner = inner;
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    this.lifetime.enter();
    try {
      checkRange(offset, into.length, this.size);
      if (into.length > 0) await this.#inner.read(into, offset);
    } finally {
      this.lifetime.leave();
    }
  }

  tryRead(into: Uint8Array, offset: number): boolean {
    this.lifetime.check();
    checkRange(offset, into.length, this.size);
    return into.length === 0 || this.#inner.tryRead(into, offset);
  }

  async extentAt(offset: number, limit: number): Promise<Extent> {
    this.lifetime.enter();
    try {
      const most = extentLimit(offset, limit, this.size);
      return checkExtent(await this.#inner.extentAt(offset, most), offset, most);
    } finally {
      this.lifetime.leave();
    }
  }

  tryExtentAt(offset: number, limit: number): Extent | undefined {
    this.lifetime.check();
    const most = extentLimit(offset, limit, this.size);
    const extent = this.#inner.tryExtentAt(offset, most);
    return extent && checkExtent(extent, offset, most);
  }

  tryDirect(offset: number, length: number): DirectSend | undefined {
    this.lifetime.check();
    checkRange(offset, length, this.size);
    return this.#inner.tryDirect?.(offset, length);
  }

  async placeAt(offset: number, limit: number): Promise<HostRange | undefined> {
    this.lifetime.enter();
    try {
      const most = extentLimit(offset, limit, this.size);
      const place = await this.#inner.placeAt?.(offset, most);
      if (place !== undefined && !(place.length >= 1 && place.length <= most))
        throw new RangeError(`driver found a place of ${place.length} bytes for ${offset}+${most}`);
      return place;
    } finally {
      this.lifetime.leave();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.lifetime.end(async () => this.#inner[Symbol.asyncDispose]());
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
    this.lifetime.enter();
    try {
      checkRange(offset, from.length, this.size);
      if (from.length > 0) await this.#inner.write(from, offset);
    } finally {
      this.lifetime.leave();
    }
  }

  async copyFrom(from: HostRange, offset: number): Promise<boolean> {
    this.lifetime.enter();
    try {
      checkRange(offset, from.length, this.size);
      if (from.length === 0) return true;
      return (await this.#inner.copyFrom?.(from, offset)) ?? false;
    } finally {
      this.lifetime.leave();
    }
  }

  async zero(offset: number, length: number, how?: ZeroOptions): Promise<void> {
    this.lifetime.enter();
    try {
      checkRange(offset, length, this.size);
      if (length > 0) await this.#inner.zero(offset, length, how);
    } finally {
      this.lifetime.leave();
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    this.lifetime.enter();
    try {
      checkRange(offset, length, this.size);
      if (length > 0) await this.#inner.discard(offset, length);
    } finally {
      this.lifetime.leave();
    }
  }

  async flush(): Promise<void> {
    this.lifetime.enter();
    try {
      await this.#inner.flush();
    } finally {
      this.lifetime.leave();
    }
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
