/**
 * A raw image that is a part of its file: from an offset, perhaps only so many bytes.
 *
 * The layer maps to positions in the whole file, so that `map` shows where the bytes really lie.
 */
import type { Capabilities, HostFile, HostRange, HostSource, ZeroOptions } from '../device.ts';
import { DiskError } from '../errors.ts';
import type { ImageFormat, Layer, LayerSource, Mapping } from '../layer.ts';
import { raw } from './raw.ts';

/** Which part of the file. */
export interface RawWindow {
  /** Bytes in front of the image; 0 if not given. */
  readonly offset?: number;
  /** Bytes of the image; up to the end of the file if not given. */
  readonly size?: number;
}

class WindowSource implements LayerSource {
  readonly format = 'raw';
  readonly backing = undefined;
  readonly #file: HostSource;
  readonly start: number;
  readonly fixedSize: number | undefined;

  constructor(file: HostSource, { offset = 0, size }: RawWindow) {
    checkWindow(file.size, offset, size);
    this.#file = file;
    this.start = offset;
    this.fixedSize = size;
  }

  get size(): number {
    return this.fixedSize ?? Math.max(this.#file.size - this.start, 0);
  }

  tryMap(offset: number, limit: number): Mapping {
    const length = Math.min(limit, this.size - offset);
    return { kind: 'raw', device: this.#file, at: this.start + offset, length, sparse: true };
  }

  async map(offset: number, limit: number): Promise<Mapping> {
    return this.tryMap(offset, limit);
  }

  async readEncoded(): Promise<void> {
    throw new RangeError('a raw image has no encoded ranges');
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

class WindowLayer extends WindowSource implements Layer {
  readonly #file: HostFile;

  constructor(file: HostFile, window: RawWindow) {
    super(file, window);
    this.#file = file;
  }

  get caps(): Capabilities {
    return this.#file.caps;
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    return this.#file.write(from, this.start + offset);
  }

  async copyFrom(from: HostRange, offset: number): Promise<boolean> {
    return (await this.#file.copyFrom?.(from, this.start + offset)) ?? false;
  }

  zero(offset: number, length: number, _below: unknown, how?: ZeroOptions): Promise<void> {
    return this.#file.zero(this.start + offset, length, how);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#file.discard(this.start + offset, length);
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  async empty(): Promise<void> {
    throw new DiskError('not-supported', 'a raw image cannot be emptied: it has nothing below it');
  }

  async resize(size: number): Promise<void> {
    if (this.fixedSize !== undefined) {
      throw new DiskError('not-supported', 'Cannot resize fixed-size raw disks');
    }
    await this.#file.truncate(this.start + size);
  }
}

/** Raw images that are a part of their file. @throws {DiskError} invalid, when one is opened that does not lie in it */
export function rawWindow(window: RawWindow): ImageFormat {
  return {
    ...raw,
    openSource: async (file, options) => {
      if (options?.snapshot !== undefined) return raw.openSource(file, options);
      return new WindowSource(file, window);
    },
    open: async (file) => new WindowLayer(file, window),
  };
}

const sector = 512;

function checkWindow(fileSize: number, offset: number, size: number | undefined): void {
  const invalid = (message: string): DiskError => new DiskError('invalid', message);
  if (fileSize < offset) {
    throw invalid(`Offset (${offset}) cannot be greater than size of the containing file (${fileSize})`);
  }
  if (size === undefined) return;
  if (fileSize - offset < size) {
    const what = `The sum of offset (${offset}) and size (${size})`;
    throw invalid(
      `${what} has to be smaller or equal to the  actual size of the containing file (${fileSize})`,
    );
  }
  if (size % sector !== 0) throw invalid('Specified size is not multiple of 512');
}
