/**
 * One qcow2 image as a layer of a chain: the format's doors, for reading and for writing.
 *
 * Opened for reading, nothing is ever written, whatever the image's state. An image that is marked corrupt can
 * be read but not written; one that was not closed properly is repaired when it is opened for writing.
 */
import type { BitmapSource, BitmapStore } from '@strata/bitmap';
import {
  type BackingReference,
  type BlockSource,
  type Capabilities,
  type Compression,
  type CompressOptions,
  DiskError,
  type HostFile,
  type HostRange,
  type HostSource,
  type ImageFormat,
  type Layer,
  type LayerSource,
  type Mapping,
  type OpenImageOptions,
  type OpenSourceOptions,
  type ResizeOptions,
  type ZeroOptions,
} from '@strata/block';
import { changeBacking } from './change-backing.ts';
import { codecOf, levelsOf } from './codec/codec.ts';
import { writeCompressed } from './compressed-write.ts';
import { copyFrom } from './copy-range.ts';
import { repairDirty } from './dirty-bit.ts';
import { discard } from './discard.ts';
import { empty } from './empty.ts';
import { type GuestCipher, openEncryption } from './encryption.ts';
import { textOf } from './extensions.ts';
import { hasFeature, unsupportedFor } from './features.ts';
import { isQcow2 } from './format.ts';
import { geometryOf } from './geometry.ts';
import { backingOf, type Header, readHeader } from './header.ts';
import { Image, type ImageOptions, type L1Place, tablesOf } from './image.ts';
import { closedError, Reader } from './reader.ts';
import { Refcounts } from './refcounts.ts';
import { resize } from './resize.ts';
import { l1OfSnapshot } from './snapshots.ts';
import { StoredBitmaps } from './stored-bitmaps.ts';
import { write } from './write.ts';
import { zero } from './zero.ts';

/** An image opened for reading. */
class Qcow2Source implements LayerSource {
  readonly format = 'qcow2';
  readonly size: number;
  readonly backing: BackingReference | undefined;
  readonly bitmaps: BitmapSource;
  readonly #reader: Reader;
  #closed = false;

  constructor(
    file: HostSource,
    data: HostSource,
    header: Header,
    options: ImageOptions,
    l1: L1Place,
    cipher: GuestCipher | undefined,
  ) {
    const geometry = geometryOf(header);
    const l2 = tablesOf(file, l1, geometry, options);
    const refcounts = new Refcounts(file, geometry, header);
    const codec = codecOf(header.compressionType);
    this.#reader = new Reader({ file, data, geometry, l2, refcounts, codec, cipher });
    this.bitmaps = new StoredBitmaps(file, header);
    this.size = header.size;
    this.backing = backingOf(header);
  }

  tryMap(offset: number, limit: number): Mapping | undefined {
    if (this.#closed) throw closedError();
    return this.#reader.tryMap(offset, Math.min(limit, this.size - offset));
  }

  async map(offset: number, limit: number): Promise<Mapping> {
    if (this.#closed) throw closedError();
    return this.#reader.map(offset, Math.min(limit, this.size - offset));
  }

  async readEncoded(into: Uint8Array, offset: number): Promise<void> {
    if (this.#closed) throw closedError();
    await this.#reader.read(into, offset);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
  }
}

/** An image opened for writing. */
class Qcow2Layer implements Layer {
  readonly format = 'qcow2';
  readonly backing: BackingReference | undefined;
  readonly caps: Capabilities;
  readonly compression: Compression;
  readonly #image: Image;

  constructor(
    file: HostFile,
    header: Header,
    options: ImageOptions,
    dataFile: HostFile | undefined,
    cipher: GuestCipher | undefined,
  ) {
    this.#image = new Image(file, header, options, dataFile, cipher);
    this.backing = backingOf(header);
    const hasZeros = header.version >= 3 || this.backing === undefined;
    const { clusterSize: unit } = this.#image.geometry;
    this.compression = Object.freeze({ unit, levels: levelsOf(header.compressionType) });
    this.caps = Object.freeze({
      blockSize: this.#image.geometry.clusterSize,
      zero: hasZeros ? 'native' : 'emulated',
      discard: hasZeros ? 'native' : 'ignored',
    });
  }

  get size(): number {
    return this.#image.size;
  }

  get bitmaps(): BitmapStore {
    return this.#image.bitmaps;
  }

  tryMap(offset: number, limit: number): Mapping | undefined {
    this.#image.lifetime.check();
    return this.#image.reader.tryMap(offset, Math.min(limit, this.size - offset));
  }

  async map(offset: number, limit: number): Promise<Mapping> {
    this.#image.lifetime.check();
    return this.#image.reader.map(offset, Math.min(limit, this.size - offset));
  }

  async readEncoded(into: Uint8Array, offset: number): Promise<void> {
    this.#image.lifetime.check();
    await this.#image.reader.read(into, offset);
  }

  write(from: Uint8Array, offset: number, below: BlockSource): Promise<void> {
    const image = this.#image;
    return image.recording(offset, from.length, () => write(image, from, offset, below));
  }

  async copyFrom(from: HostRange, offset: number, below: BlockSource): Promise<boolean> {
    const image = this.#image;
    let isCopied = false;
    await image.recording(offset, from.length, async () => {
      isCopied = await copyFrom(image, from, offset, below);
    });
    return isCopied;
  }

  writeCompressed(
    from: Uint8Array,
    offset: number,
    below: BlockSource,
    how: CompressOptions = {},
  ): Promise<void> {
    const image = this.#image;
    return image.recording(offset, from.length, () => writeCompressed(image, from, offset, below, how));
  }

  zero(offset: number, length: number, below: BlockSource, how: ZeroOptions = {}): Promise<void> {
    const image = this.#image;
    const change = (): Promise<void> => image.run(() => zero(image, offset, length, below, how));
    return image.recording(offset, length, change);
  }

  discard(offset: number, length: number): Promise<void> {
    const image = this.#image;
    return image.recording(offset, length, () => image.run(() => discard(image, offset, length)));
  }

  flush(): Promise<void> {
    return this.#image.run(() => this.#image.barrier.run());
  }

  empty(): Promise<void> {
    return this.#image.run(() => empty(this.#image));
  }

  resize(size: number, below: BlockSource, how: ResizeOptions = {}): Promise<void> {
    return this.#image.run(() => resize(this.#image, size, below, how));
  }

  changeBacking(reference: BackingReference | undefined): Promise<void> {
    return this.#image.run(() => changeBacking(this.#image, reference));
  }

  /** Waits for what runs, then leaves the file complete and without leaks. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#image.close();
  }
}

/** The file that holds the guest's data, if it is not the image's own. */
async function dataFileOf<Host extends HostSource>(
  header: Header,
  { openDataFile }: OpenImageOptions<Host>,
): Promise<Host | undefined> {
  if (!hasFeature(header, 'dataFile')) return undefined;
  const { dataFile = new Uint8Array(0) } = header.extensions;
  if (openDataFile !== undefined) return openDataFile(textOf(dataFile));
  throw new DiskError('not-supported', 'the image has an external data file, and nobody is there to open it');
}

/** The qcow2 format with options of its own; `qcow2Format` is the one with none. */
export function qcow2FormatWith(options: ImageOptions): ImageFormat {
  return Object.freeze({
    name: 'qcow2',
    exclusive: true,
    matches: isQcow2,
    openSource: async (file: HostSource, opening: OpenSourceOptions = {}) => {
      const header = await readHeader(file);
      const refusal = unsupportedFor(header, 'read');
      if (refusal !== undefined) throw refusal;
      const { snapshot } = opening;
      const l1 = snapshot === undefined ? header : await l1OfSnapshot(file, header, snapshot);
      const cipher = await openEncryption(file, header, options);
      return new Qcow2Source(file, (await dataFileOf(header, opening)) ?? file, header, options, l1, cipher);
    },
    open: async (file: HostFile, opening: OpenImageOptions<HostFile> = {}) => {
      let header = await readHeader(file);
      const refusal = unsupportedFor(header, 'write');
      if (refusal !== undefined) throw refusal;
      const cipher = await openEncryption(file, header, options);
      const dataFile = await dataFileOf(header, opening);
      if (hasFeature(header, 'dirty')) header = await repairDirty(file);
      return new Qcow2Layer(file, header, options, dataFile, cipher);
    },
  });
}

/** qcow2, versions 2 and 3. */
export const qcow2Format: ImageFormat = qcow2FormatWith({});
