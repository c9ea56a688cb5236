/**
 * One image opened for writing: the parts that reading, writing, zeroing and resizing share.
 *
 * The functions that change an image (write.ts, zero.ts, discard.ts, resize.ts, empty.ts) take it as their
 * first argument. They hold their guest range first and wait for nobody else's while they hold it; a barrier
 * holds nothing. An overwrite in place holds its bytes only, so that small writes into one cluster run side by
 * side; everything that changes a table entry holds whole clusters.
 */
import { NamedBitmaps } from '@strata/bitmap';
import {
  DiskError,
  type HostFile,
  type HostSource,
  Lifetime,
  type RangeHold,
  RangeLock,
} from '@strata/block';
import { Allocator } from './allocate.ts';
import { Barrier } from './barrier.ts';
import type { BitmapEntry } from './bitmaps.ts';
import { type Codec, codecOf } from './codec/codec.ts';
import { isDamageOf } from './damage.ts';
import { type DataSpace, externalSpace, ownSpace } from './data-space.ts';
import { DirtyBit } from './dirty-bit.ts';
import type { EncryptionOptions, GuestCipher } from './encryption.ts';
import { Autoclear, Incompatible } from './format.ts';
import { type Geometry, geometryOf } from './geometry.ts';
import { backingOf, type Header } from './header.ts';
import { featuresPatch } from './header-encode.ts';
import { ImageBitmaps } from './image-bitmaps.ts';
import { Links } from './links.ts';
import { l2Tables } from './mapping.ts';
import { Structures } from './overlap.ts';
import { Packer } from './packing.ts';
import { Quarantine } from './quarantine.ts';
import { Reader } from './reader.ts';
import { Refcounts } from './refcounts.ts';
import { Scratch } from './scratch.ts';
import { ClusterTables } from './tables.ts';
import { Turns } from './turns.ts';
import { WordTable } from './word-table.ts';

/** How an image is kept open. */
export interface ImageOptions extends EncryptionOptions {
  /** Bytes of clean L2 tables to keep in memory; 32 MiB unless told. */
  readonly l2CacheBytes?: number;
  /** Punches clusters out of the file once nothing refers to them any more; false unless told. */
  readonly discardHost?: boolean;
}

const SECTOR = 512;
/** As much as a copy writes at once. */
export const STREAM_SCRATCH_BYTES = 2 * 1024 * 1024;

/** Where the header has its incompatible features. */
const FEATURES_AT = 72;

const L2_CACHE_BYTES = 32 * 1024 * 1024;

/** Where an L1 table is: the active disk's, as the header says, or a snapshot's. */
export type L1Place = Pick<Header, 'l1At' | 'l1Entries'>;

/** The L2 tables that an L1 table leads to. */
export function tablesOf(
  file: HostSource,
  place: L1Place,
  geometry: Geometry,
  options: ImageOptions,
): ClusterTables {
  const l1 = new WordTable(file, place.l1At, place.l1Entries);
  return new ClusterTables(file, l1, geometry, l2Tables(geometry, options.l2CacheBytes ?? L2_CACHE_BYTES));
}

/** An image opened for writing. */
export class Image {
  readonly file: HostFile;
  readonly geometry: Geometry;
  readonly hasBacking: boolean;
  readonly l2: ClusterTables;
  readonly refcounts: Refcounts;
  readonly structures: Structures;
  readonly quarantine = new Quarantine();
  readonly allocator: Allocator;
  /** Where guest clusters have their places. */
  readonly space: DataSpace;
  /** The external data file by itself must stay a raw image of the disk. */
  readonly isRawData: boolean;
  readonly discardHost: boolean;
  readonly packer: Packer;
  readonly dirty: DirtyBit;
  readonly barrier: Barrier;
  readonly links: Links;
  readonly reader: Reader;
  readonly codec: Codec;
  readonly bitmaps: NamedBitmaps<BitmapEntry>;
  /** Counts the calls that run. */
  readonly lifetime = new Lifetime();
  /** Which guest ranges are being changed. */
  readonly ranges = new RangeLock();
  readonly scratch = new Scratch();
  /** For the streams of compressed writes. */
  readonly streamScratch = new Scratch(STREAM_SCRATCH_BYTES);
  /** The order of compressed writes. */
  readonly turns = new Turns();
  /** Bytes the guest sees. */
  size: number;
  #header: Header;
  /** There are bitmaps that may record: `recording` tells them. */
  #records: boolean;
  #prepared = false;
  #closing = false;
  #preparing: Promise<void> | undefined;
  #broken: DiskError | undefined;

  /**
   * @param dataFile the external data file, if the header asks for one; it stays the caller's
   * @param cipher how guest data is enciphered, if it is
   */
  constructor(
    file: HostFile,
    header: Header,
    options: ImageOptions,
    dataFile?: HostFile,
    cipher?: GuestCipher,
  ) {
    const geometry = geometryOf(header);
    const { quarantine } = this;
    const l2 = tablesOf(file, header, geometry, options);
    const refcounts = new Refcounts(file, geometry, header);
    const structures = new Structures(geometry, header, l2, refcounts);
    const allocator = new Allocator({ geometry, refcounts, quarantine, structures }, file.size);
    const discardHost = options.discardHost ?? false;
    const space =
      dataFile === undefined
        ? ownSpace({ file, geometry, refcounts, allocator, quarantine, structures })
        : externalSpace(dataFile, geometry);
    this.file = file;
    this.codec = codecOf(header.compressionType);
    this.#header = header;
    this.geometry = geometry;
    this.hasBacking = backingOf(header) !== undefined;
    this.l2 = l2;
    this.refcounts = refcounts;
    this.structures = structures;
    this.allocator = allocator;
    this.space = cipher?.space(space) ?? space;
    this.isRawData = geometry.externalData && (header.autoclear & Autoclear.rawData) !== 0n;
    this.discardHost = discardHost;
    const data = space.file;
    const dirty = new DirtyBit(header);
    this.dirty = dirty;
    this.barrier = new Barrier({
      file,
      data,
      geometry,
      l2,
      refcounts,
      quarantine,
      allocator,
      dirty,
      discardHost,
    });
    this.reader = new Reader({ file, data, geometry, l2, refcounts, codec: this.codec, cipher });
    this.packer = new Packer({ geometry, refcounts, allocator });
    const { compressed } = this.reader;
    this.links = new Links({ geometry, l2, refcounts, allocator, quarantine, structures, space, compressed });
    this.size = header.size;
    this.#records = header.extensions.bitmaps !== undefined;
    const keeper = new ImageBitmaps({
      file,
      geometry,
      allocator,
      quarantine,
      structures,
      barrier: this.barrier,
      size: () => this.size,
      exclusively: (change) => this.lifetime.alone(() => this.run(() => this.holdAll(change))),
      appeared: () => {
        this.#records = true;
      },
    });
    this.bitmaps = new NamedBitmaps(keeper);
  }

  /** The header as it was when the image was opened, or when its structures were last replaced. */
  get header(): Header {
    return this.#header;
  }

  /** True while the file is ready for changes: the first one that holds clusters makes it so. */
  get isPrepared(): boolean {
    return this.#prepared && !this.#closing;
  }

  /** Refuses all further changes: memory and file may have come apart. */
  breakWith(cause: unknown): void {
    this.#break(new DiskError('io', 'the image failed while its tables were moved', { cause }));
  }

  #break(error: DiskError): void {
    this.#prepared = false;
    this.#preparing = undefined;
    this.#broken = error;
    this.barrier.stop(error);
  }

  /** Runs `change` of a guest range; what records has been told of it before, and stays what it is until it has settled. */
  recording(offset: number, length: number, change: () => Promise<void>): Promise<void> {
    const ready =
      this.lifetime.pause ??
      (this.#records && !this.isPrepared ? this.run(() => this.#prepare()) : undefined);
    if (ready !== undefined) return ready.then(() => this.recording(offset, length, change));
    if (this.#records) this.bitmaps.mark(offset, length);
    return change();
  }

  /** Runs a call, so that closing waits for it. @throws {DiskError} closed */
  async run<T>(call: () => Promise<T>): Promise<T> {
    this.lifetime.enter();
    try {
      return await call();
    } catch (error) {
      if (isDamageOf(error, this.geometry)) await this.#markCorrupt(error);
      throw error;
    } finally {
      this.lifetime.leave();
    }
  }

  /**
   * Refuses all further changes: in a damaged image any of them may do more damage. The header says so too, so
   * that nobody writes the image before it is repaired. What memory holds and the file does not is dropped.
   */
  async #markCorrupt(damage: DiskError): Promise<void> {
    if (this.#broken !== undefined) return;
    const message = `the image was marked as corrupt and takes no more changes: ${damage.message}`;
    this.#break(new DiskError('corrupt', message, { cause: damage }));
    if (this.geometry.version < 3) return;
    const features = Buffer.alloc(8);
    await this.file.read(features, FEATURES_AT);
    features.writeBigUInt64BE(features.readBigUInt64BE(0) | Incompatible.corrupt);
    // If this fails too, whoever changed something has heard of the damage all the same.
    await this.file.write(features, FEATURES_AT).catch(() => undefined);
    await this.file.flush().catch(() => undefined);
  }

  /** The range of the whole clusters around a guest range. */
  clustersAround(offset: number, length: number): { readonly offset: number; readonly length: number } {
    const { clusterSize } = this.geometry;
    const from = Math.floor(offset / clusterSize) * clusterSize;
    return { offset: from, length: Math.ceil((offset + length) / clusterSize) * clusterSize - from };
  }

  /** Runs `change`, prepared, while it holds the whole clusters around a guest range. */
  async holdClusters(offset: number, length: number, change: () => Promise<void>): Promise<void> {
    const clusters = this.clustersAround(offset, length);
    const turn = this.turns.join();
    try {
      const hold = await this.ranges.acquire(clusters.offset, clusters.length);
      await this.holding(hold, async () => {
        if (turn !== undefined) await turn.ready;
        await change();
      });
    } finally {
      turn?.pass();
    }
  }

  /** Runs `change`, prepared, while nothing else changes. */
  async holdAll(change: () => Promise<void>): Promise<void> {
    await this.holding(await this.ranges.acquire(0, Number.POSITIVE_INFINITY), change);
  }

  /**
   * Runs `change` while nothing else changes and the file holds all that memory does. What `change` does must
   * leave the disk's content and with it the bitmaps right: autoclear features stay as they are.
   */
  async holdSettled(change: () => Promise<void>): Promise<void> {
    const hold = await this.ranges.acquire(0, Number.POSITIVE_INFINITY);
    try {
      if (this.#broken !== undefined) throw this.#broken;
      this.structures.checkHeader();
      await this.barrier.settle();
      await this.barrier.exclusively(change);
    } finally {
      hold.release();
    }
  }

  /** Forgets all structures in memory: `header`, which is in the file, leads to others. */
  adopt(header: Header): void {
    const { l2, refcounts, geometry } = this;
    this.#header = header;
    this.size = header.size;
    l2.forgetAll();
    l2.parent.adopt(header.l1At, header.l1Entries);
    refcounts.blocks.forgetAll();
    const words = header.refcountTableClusters * geometry.wordsPerCluster;
    refcounts.table.adopt(header.refcountTableAt, words);
    this.reader.compressed.forgetAll();
    this.structures.follow(header);
    this.allocator.restart(this.file.size);
  }

  /** Runs `change`, prepared, and ends the hold. */
  async holding(hold: RangeHold, change: () => Promise<void>): Promise<void> {
    try {
      await this.#prepare();
      await change();
    } finally {
      hold.release();
    }
  }

  /** Refuses further calls, waits for those that run, then leaves the file complete and without leaks. */
  close(): Promise<void> {
    this.#closing = true;
    return this.lifetime.end(async () => {
      this.dirty.endLaziness();
      // What one barrier releases, the next one counts.
      if (this.#prepared || this.barrier.isNeeded) await this.barrier.settle();
      if (this.#prepared) {
        await this.bitmaps.store();
        await this.barrier.settle();
        if (this.packer.isUsed) await this.#padToSector();
      }
      if (this.#broken === undefined) await this.dirty.clear(this.file);
    });
  }

  /** The last stream may end anywhere, and older tools want a file of whole sectors. */
  async #padToSector(): Promise<void> {
    const end = Math.ceil(this.file.size / SECTOR) * SECTOR;
    if (end !== this.file.size) await this.file.truncate(end);
  }

  /** Makes the file ready for changes, and keeps those that wait in memory bounded. */
  async #prepare(): Promise<void> {
    if (!this.#prepared) {
      this.#preparing ??= this.#makeReady().catch((error: unknown) => {
        this.#preparing = undefined;
        throw error;
      });
      await this.#preparing;
    }
    const relief = this.barrier.relieve();
    if (relief !== undefined) await relief;
  }

  /** Features that we do not keep up to date are declared stale before anything changes, and bitmaps in use. */
  async #makeReady(): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken;
    this.structures.checkHeader();
    const kept = (this.#records ? Autoclear.bitmaps : 0n) | (this.isRawData ? Autoclear.rawData : 0n);
    const autoclear = this.header.autoclear & kept;
    if (this.header.autoclear !== autoclear) {
      const { offset, bytes } = featuresPatch({ ...this.header, autoclear });
      await this.file.write(bytes, offset);
      await this.file.flush();
    }
    if (this.#records) await this.bitmaps.prepare();
    this.#prepared = true;
  }
}
