/**
 * An image format whose images keep no bitmaps, with bitmaps in a file beside each image.
 *
 * For reading, an image is what it was unless there is such a file. For writing every image can get bitmaps; as long as
 * it has none, a change costs the counting of it. Images that are no plain files have bitmaps in memory only.
 */
import {
  type BlockSource,
  type Capabilities,
  DiskError,
  type HostFile,
  type HostRange,
  type HostSource,
  type ImageFormat,
  type Layer,
  type LayerSource,
  Lifetime,
  type Mapping,
  type ResizeOptions,
  type ZeroOptions,
} from '@strata/block';
import { DirtyBitmap, mostMemory } from './bitmap.ts';
import { type BitmapKeeper, type NamedBitmap, NamedBitmaps } from './named-bitmaps.ts';
import type { SideEntry } from './side-file.ts';
import { placeBeside, type SidePlace } from './side-place.ts';
import { defaultGranularity, Sidecar, sideBitmaps, type WrittenSubject } from './sidecar.ts';
import type { BitmapSource } from './store.ts';

/** Finds the place beside an image; undefined where there is none. */
export type FindPlace = (host: HostSource) => Promise<SidePlace | undefined>;

/** `format`, whose images keep no bitmaps and compress nothing, with bitmaps beside its images. */
export function withBitmapsBeside(format: ImageFormat, find: FindPlace = findPlace): ImageFormat {
  return {
    ...format,
    openSource: async (file, options) => {
      const layer = await format.openSource(file, options);
      const bitmaps = await bitmapsBeside(file, layer, find);
      return bitmaps === undefined ? layer : new ReadLayer(layer, bitmaps);
    },
    open: async (file, options) => {
      const layer = await format.open(file, options);
      try {
        const written = new WrittenLayer(layer, file, await find(file));
        await written.begin();
        return written;
      } catch (error) {
        await layer[Symbol.asyncDispose]();
        throw error;
      }
    },
  };
}

/** The bitmaps beside the image in `file`, whose disk is of `size` bytes; undefined if there is no file of them. */
export async function bitmapsBeside(
  file: HostSource,
  { size }: Pick<LayerSource, 'size'>,
  find: FindPlace = findPlace,
): Promise<BitmapSource | undefined> {
  const place = await find(file);
  const found = await place?.open();
  await found?.[Symbol.asyncDispose]();
  if (place === undefined || found === undefined) return undefined;
  return sideBitmaps(place, { size: () => size, stamp: async () => file.stamp?.() });
}

/**
 * Says that the file of `layer` is about to be changed by another way than the layer, in bytes that are not the disk's:
 * bitmaps beside it stay right.
 */
export async function beforeOtherChanges(layer: Layer): Promise<void> {
  if (layer instanceof WrittenLayer) await layer.prepare();
}

async function findPlace(host: HostSource): Promise<SidePlace | undefined> {
  const { path } = host;
  const isPlainFile = path !== undefined && (await host.stamp?.()) !== undefined;
  return isPlainFile ? placeBeside(path) : undefined;
}

/** Keeps nothing. */
function noKeeper(subject: WrittenSubject): BitmapKeeper<SideEntry> {
  const nothing = async (): Promise<void> => undefined;
  const refuse = (): never => {
    throw new DiskError('not-supported', 'this image is no plain file: it can keep no bitmaps beside it');
  };
  return {
    room: { left: mostMemory },
    storesAnySize: true,
    defaultGranularity,
    size: subject.size,
    exclusively: subject.exclusively,
    appeared: subject.appeared,
    read: async () => [],
    load: async ({ granularity }: NamedBitmap<SideEntry>) => new DirtyBitmap(subject.size(), granularity),
    judge: refuse,
    add: nothing,
    remove: nothing,
    rename: nothing,
    markInUse: nothing,
    store: nothing,
  };
}

/** An image opened for reading that has bitmaps beside it. */
class ReadLayer implements LayerSource {
  readonly bitmaps: BitmapSource;
  readonly #layer: LayerSource;

  constructor(layer: LayerSource, bitmaps: BitmapSource) {
    this.#layer = layer;
    this.bitmaps = bitmaps;
  }

  get size(): number {
    return this.#layer.size;
  }

  get format(): string {
    return this.#layer.format;
  }

  get backing(): LayerSource['backing'] {
    return this.#layer.backing;
  }

  tryMap(offset: number, limit: number): Mapping | undefined {
    return this.#layer.tryMap(offset, limit);
  }

  map(offset: number, limit: number): Promise<Mapping> {
    return this.#layer.map(offset, limit);
  }

  readEncoded(into: Uint8Array, offset: number): Promise<void> {
    return this.#layer.readEncoded(into, offset);
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#layer[Symbol.asyncDispose]();
  }
}

/** An image opened for writing. */
class WrittenLayer implements Layer {
  readonly bitmaps: NamedBitmaps<SideEntry>;
  readonly #layer: Layer;
  /** Counts the changes that run. */
  readonly #lifetime = new Lifetime();
  /** There are bitmaps, which `#recording` tells of changes. */
  #records = false;
  #prepared = false;
  #preparing: Promise<void> | undefined;

  constructor(layer: Layer, file: HostFile, place: SidePlace | undefined) {
    this.#layer = layer;
    const subject: WrittenSubject = {
      size: () => layer.size,
      stamp: async () => file.stamp?.(),
      seal: async () => {
        await layer.flush();
        return file.seal?.();
      },
      exclusively: (change) => this.#lifetime.alone(change),
      appeared: () => {
        this.#records = true;
      },
    };
    const keeper = place === undefined ? noKeeper(subject) : new Sidecar(place, subject);
    this.bitmaps = new NamedBitmaps(keeper);
  }

  /** Looks for bitmaps. @throws {DiskError} corrupt, limit, denied, io */
  async begin(): Promise<void> {
    this.#records = (await this.bitmaps.list()).length > 0;
  }

  get size(): number {
    return this.#layer.size;
  }

  get format(): string {
    return this.#layer.format;
  }

  get backing(): Layer['backing'] {
    return this.#layer.backing;
  }

  get caps(): Capabilities {
    return this.#layer.caps;
  }

  tryMap(offset: number, limit: number): Mapping | undefined {
    return this.#layer.tryMap(offset, limit);
  }

  map(offset: number, limit: number): Promise<Mapping> {
    return this.#layer.map(offset, limit);
  }

  readEncoded(into: Uint8Array, offset: number): Promise<void> {
    return this.#layer.readEncoded(into, offset);
  }

  write(from: Uint8Array, offset: number, below: BlockSource): Promise<void> {
    return this.#recording(offset, from.length, () => this.#layer.write(from, offset, below));
  }

  copyFrom(from: HostRange, offset: number, below: BlockSource): Promise<boolean> {
    const copy = async (): Promise<boolean> => (await this.#layer.copyFrom?.(from, offset, below)) ?? false;
    return this.#recording(offset, from.length, copy);
  }

  zero(offset: number, length: number, below: BlockSource, how?: ZeroOptions): Promise<void> {
    return this.#recording(offset, length, () => this.#layer.zero(offset, length, below, how));
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#recording(offset, length, () => this.#layer.discard(offset, length));
  }

  flush(): Promise<void> {
    return this.#layer.flush();
  }

  empty(): Promise<void> {
    return this.#layer.empty();
  }

  resize(size: number, below: BlockSource, how?: ResizeOptions): Promise<void> {
    return this.#lifetime.alone(async () => {
      if (this.#records) {
        await this.prepare();
        await this.bitmaps.prepareResize();
      }
      await this.#layer.resize(size, below, how);
      if (this.#records) await this.bitmaps.resized();
    });
  }

  /** Stores the bitmaps once nothing changes the image any more. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifetime.end(async () => {
      try {
        await this.bitmaps.store();
      } finally {
        await this.#layer[Symbol.asyncDispose]();
      }
    });
  }

  /** Has the bitmaps marked as in use, durably, and records from then on. */
  async prepare(): Promise<void> {
    if (!this.#records || this.#prepared) return;
    this.#lifetime.enter();
    try {
      this.#preparing ??= this.bitmaps.prepare();
      await this.#preparing;
      this.#prepared = true;
    } finally {
      this.#preparing = undefined;
      this.#lifetime.leave();
    }
  }

  /** Runs `change` of a range; what records has been told of it before, and stays what it is until it has settled. */
  #recording<T>(offset: number, length: number, change: () => Promise<T>): Promise<T> {
    const ready = this.#lifetime.pause ?? (this.#records && !this.#prepared ? this.prepare() : undefined);
    if (ready !== undefined) return ready.then(() => this.#recording(offset, length, change));
    this.#lifetime.enter();
    const leave = (): void => this.#lifetime.leave();
    if (this.#records) this.bitmaps.mark(offset, length);
    const changing = change();
    changing.then(leave, leave);
    return changing;
  }
}
