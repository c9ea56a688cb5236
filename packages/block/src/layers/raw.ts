/**
 * The raw format: the file is the disk, byte for byte.
 *
 * Its size is the file's exact size. The host's extents tell which bytes are zeros, so every range maps to
 * the file, `sparse`.
 */
import type { Capabilities, HostFile, HostRange, HostSource, ZeroOptions } from '../device.ts';
import { DiskError } from '../errors.ts';
import type { ImageFormat, Layer, LayerSource, Mapping, ResizeOptions } from '../layer.ts';
import { spendSpace } from '../preallocate.ts';

class RawSource implements LayerSource {
  readonly format = 'raw';
  readonly backing = undefined;
  readonly #file: HostSource;

  constructor(file: HostSource) {
    this.#file = file;
  }

  get size(): number {
    return this.#file.size;
  }

  tryMap(offset: number, limit: number): Mapping {
    const length = Math.min(limit, this.size - offset);
    return { kind: 'raw', device: this.#file, at: offset, length, sparse: true };
  }

  async map(offset: number, limit: number): Promise<Mapping> {
    return this.tryMap(offset, limit);
  }

  async readEncoded(): Promise<void> {
    throw new RangeError('a raw image has no encoded ranges');
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

class RawLayer extends RawSource implements Layer {
  readonly #file: HostFile;

  constructor(file: HostFile) {
    super(file);
    this.#file = file;
  }

  get caps(): Capabilities {
    return this.#file.caps;
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    return this.#file.write(from, offset);
  }

  async copyFrom(from: HostRange, offset: number): Promise<boolean> {
    return (await this.#file.copyFrom?.(from, offset)) ?? false;
  }

  zero(offset: number, length: number, _below: unknown, how?: ZeroOptions): Promise<void> {
    return this.#file.zero(offset, length, how);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#file.discard(offset, length);
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  async empty(): Promise<void> {
    throw new DiskError('not-supported', 'a raw image cannot be emptied: it has nothing below it');
  }

  async resize(size: number, _below: unknown, { preallocation = 'off' }: ResizeOptions = {}): Promise<void> {
    if (preallocation === 'metadata')
      throw new DiskError('not-supported', `Unsupported preallocation mode: ${preallocation}`);
    const old = this.size;
    await this.#file.truncate(size);
    if (preallocation === 'off' || size <= old) return;
    try {
      await spendSpace(this.#file, old, size - old, preallocation);
    } catch (error) {
      await this.#file.truncate(old).catch(() => undefined);
      throw error;
    }
  }
}

/** Raw images. Nothing in the bytes tells that a file is one, so it never matches. */
export const raw: ImageFormat = {
  name: 'raw',
  exclusive: false,
  matches: () => false,
  openSource: async (file, { snapshot } = {}) => {
    if (snapshot === undefined) return new RawSource(file);
    const message =
      "Block format 'raw' used by device '' does not support temporarily loading internal snapshots";
    throw new DiskError('not-supported', message, { op: 'snapshot' });
  },
  open: async (file) => new RawLayer(file),
};
