/**
 * The bitmaps of an image that is open for writing: they record what changes, and are stored when the image is closed.
 *
 * In the file a bitmap that records is marked *in use* before the first change, durably, and stays so until its bits
 * have been stored after everything that they tell of; so after a crash it is known to be unknown, and it is never
 * missing and never clean where it should not be. While it is marked, its table and clusters are written in place. What does
 * not record and was not touched stays as it is. Adding and removing write a new directory and switch the header to it.
 *
 * Spec: qcow2.txt, "Bitmaps" and "Bitmaps extension"
 */
import {
  type BitmapFacts,
  type BitmapStore,
  DirtyBitmap,
  inconsistentBitmap,
  type NewBitmap,
  noSuchBitmap,
} from '@strata/bitmap';
import { DiskError } from '@strata/block';
import type { Barrier } from './barrier.ts';
import { bitmapClusters, type LoadBudget, loadBitmap, MAX_LOADED_BYTES } from './bitmap-content.ts';
import { freeBits, newTable, type StoringParts, storeBits } from './bitmap-storing.ts';
import {
  type BitmapEntry,
  bitmapEntryLength,
  encodeBitmapState,
  encodeDirectory,
  listBitmaps,
} from './bitmaps.ts';
import { Autoclear, MAX_BITMAP_BYTES, MAX_BITMAP_NAME, MAX_BITMAPS } from './format.ts';
import { hostOffset } from './geometry.ts';
import { type Header, readHeader } from './header.ts';
import { rewriteHeader } from './header-rewrite.ts';

/** What the bitmaps of an image stand on. */
export interface ImageBitmapsParts extends StoringParts {
  readonly barrier: Barrier;
  /** Bytes of the disk, now. */
  size(): number;
  /** Runs what changes the image while nothing else does, with the file ready for changes. */
  exclusively(change: () => Promise<void>): Promise<void>;
  /** There are bitmaps now, which must be told of changes. */
  appeared(): void;
}

/** A bitmap of the image. */
interface Row {
  /** As the file has it. */
  entry: BitmapEntry;
  readonly inconsistent: boolean;
  enabled: boolean;
  /** Its content, if it was needed. */
  bitmap: DirtyBitmap | undefined;
  /** The file does not have its content, or not its state. */
  changed: boolean;
}

/** The bitmaps of one open image. */
export class ImageBitmaps implements BitmapStore {
  readonly #parts: ImageBitmapsParts;
  #opening: Promise<Row[]> | undefined;
  #recording: readonly DirtyBitmap[] = [];
  readonly #budget: LoadBudget = { left: MAX_LOADED_BYTES };

  constructor(parts: ImageBitmapsParts) {
    this.#parts = parts;
  }

  /** Tells all that record of a change that is about to happen. After `prepare`. */
  mark(offset: number, length: number): void {
    for (const bitmap of this.#recording) bitmap.set(offset, length);
  }

  /** Loads what records and marks it in use in the file, durably. */
  async prepare(): Promise<void> {
    const rows = await this.#rows();
    const recording = rows.filter(({ enabled, inconsistent }) => enabled && !inconsistent);
    for (const row of recording) await this.#content(row);
    await this.#markInUse(recording);
    this.#recording = recording.map(({ bitmap }) => bitmap as DirtyBitmap);
  }

  async list(): Promise<readonly BitmapFacts[]> {
    return (await this.#rows()).map(({ entry: { name, granularity }, enabled, inconsistent }) => {
      return { name, granularity, enabled, inconsistent };
    });
  }

  async load(name: string): Promise<DirtyBitmap> {
    return this.#content(await this.#usable(name));
  }

  async add(name: string, { granularity, enabled = true }: NewBitmap): Promise<void> {
    const { geometry, size, exclusively } = this.#parts;
    const bitmap = new DirtyBitmap(size(), granularity);
    judgeName(name);
    if (geometry.version < 3)
      throw new DiskError('not-supported', 'Cannot store dirty bitmaps in qcow2 v2 files');
    await exclusively(async () => {
      const rows = await this.#rows();
      if (rows.some(({ entry }) => entry.name === name))
        throw new DiskError('exists', `Bitmap already exists: ${name}`);
      if (rows.length === MAX_BITMAPS)
        throw new DiskError('limit', 'Maximum number of persistent bitmaps is already reached');
      const entries = bitmapClusters(geometry, size(), granularity);
      if (entries * geometry.clusterSize > MAX_BITMAP_BYTES) {
        const message = 'Too much space will be occupied by the bitmap. Use larger granularity';
        throw new DiskError('limit', message);
      }
      const table = await newTable(this.#parts, entries);
      const entry = { name, granularity, inUse: enabled, auto: enabled, ...table, entryAt: hostOffset(0) };
      await this.#switchTo([...rows, { entry, inconsistent: false, enabled, bitmap, changed: false }]);
      this.#parts.appeared();
      await this.prepare();
    });
  }

  async remove(name: string): Promise<void> {
    await this.#parts.exclusively(async () => {
      const rows = await this.#rows();
      const row = rows.find(({ entry }) => entry.name === name);
      if (row === undefined) throw noSuchBitmap(name);
      await this.#switchTo(rows.filter((other) => other !== row));
      await freeBits(this.#parts, row.entry);
      await this.prepare();
    });
  }

  async clear(name: string): Promise<void> {
    await this.#change(name, (bitmap) => bitmap.clearAll());
  }

  async merge(name: string, other: DirtyBitmap): Promise<void> {
    await this.#change(name, (bitmap) => bitmap.merge(other));
  }

  async setEnabled(name: string, enabled: boolean): Promise<void> {
    await this.#parts.exclusively(async () => {
      const row = await this.#usable(name);
      if (row.enabled === enabled) return;
      await this.#content(row);
      row.enabled = enabled;
      row.changed = true;
      await this.prepare();
    });
  }

  /**
   * Loads everything that a change of the disk's size would change, and marks it in use: tables that do not fit the
   * size would make the image unreadable. @throws {DiskError} invalid (inconsistent)
   */
  async prepareResize(): Promise<void> {
    const rows = await this.#rows();
    for (const row of rows) {
      if (row.inconsistent) throw inconsistentBitmap(row.entry.name);
      await this.#content(row);
    }
    await this.#markInUse(rows);
  }

  /** The disk has another size from now on. */
  async resized(): Promise<void> {
    for (const row of await this.#rows()) {
      if (row.bitmap === undefined) continue;
      row.bitmap = row.bitmap.resized(this.#parts.size());
      row.changed = true;
    }
    await this.prepare();
  }

  /** Puts into the file what it does not have yet. Everything else of the image must be there already. */
  async store(): Promise<void> {
    if (this.#opening === undefined) return;
    const { file, barrier, geometry, size } = this.#parts;
    const rows = (await this.#rows()).filter((row) => !row.inconsistent && (row.changed || row.entry.inUse));
    if (rows.length === 0) return;
    await this.#markInUse(rows);
    for (const row of rows) {
      const { granularity } = row.entry;
      const wanted = bitmapClusters(geometry, size(), granularity);
      const { tableAt, tableEntries } = await storeBits(
        this.#parts,
        row.entry,
        await this.#content(row),
        wanted,
      );
      row.entry = { ...row.entry, tableAt, tableEntries };
    }
    await barrier.run();
    await this.#writeStates(rows);
    for (const row of rows) {
      row.entry = { ...row.entry, inUse: false, auto: row.enabled };
      row.changed = false;
    }
    await this.#writeStates(rows);
    await file.flush();
    this.#recording = [];
  }

  #rows(): Promise<Row[]> {
    this.#opening ??= this.#readRows().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #readRows(): Promise<Row[]> {
    const { file } = this.#parts;
    return (await listBitmaps(file, await readHeader(file))).map((entry) => {
      return { entry, inconsistent: entry.inUse, enabled: entry.auto, bitmap: undefined, changed: false };
    });
  }

  async #usable(name: string): Promise<Row> {
    const row = (await this.#rows()).find(({ entry }) => entry.name === name);
    if (row === undefined) throw noSuchBitmap(name);
    if (row.inconsistent) throw inconsistentBitmap(name);
    return row;
  }

  async #content(row: Row): Promise<DirtyBitmap> {
    const { file, geometry, size } = this.#parts;
    row.bitmap ??= await loadBitmap(file, geometry, size(), row.entry, this.#budget);
    return row.bitmap;
  }

  async #change(name: string, change: (bitmap: DirtyBitmap) => void): Promise<void> {
    await this.#parts.exclusively(async () => {
      const row = await this.#usable(name);
      change(await this.#content(row));
      row.changed = true;
    });
  }

  async #markInUse(rows: readonly Row[]): Promise<void> {
    const unmarked = rows.filter(({ entry }) => !entry.inUse);
    if (unmarked.length === 0) return;
    for (const row of unmarked) row.entry = { ...row.entry, inUse: true };
    await this.#writeStates(unmarked);
  }

  /** Each is one write of 16 bytes; where that crosses a sector, the half before the flags is the one that was there. */
  async #writeStates(rows: readonly Row[]): Promise<void> {
    const { file } = this.#parts;
    for (const { entry } of rows) await file.write(encodeBitmapState(entry), entry.entryAt);
    await file.flush();
  }

  /** Makes `rows` the bitmaps of the file. What they lead to must be there after the next barrier. */
  async #switchTo(rows: Row[]): Promise<void> {
    const { file, geometry, allocator, quarantine, barrier } = this.#parts;
    const { clusterSize } = geometry;
    let at = hostOffset(0);
    const bytes = encodeDirectory(rows.map(({ entry }) => entry));
    if (rows.length > 0) {
      at = (await allocator.allocateInOneRun(Math.ceil(bytes.length / clusterSize))).at;
      await file.write(bytes, at);
    }
    await barrier.run();
    let old: Header['extensions']['bitmaps'];
    await barrier.exclusively(async () => {
      const header = await readHeader(file);
      old = header.extensions.bitmaps;
      const bitmaps =
        rows.length === 0 ? undefined : { count: rows.length, directoryAt: at, directorySize: bytes.length };
      const extensions = { ...header.extensions, bitmaps };
      const autoclear = bitmaps
        ? header.autoclear | Autoclear.bitmaps
        : header.autoclear & ~Autoclear.bitmaps;
      await rewriteHeader(file, { ...header, extensions, autoclear });
    });
    if (old !== undefined)
      quarantine.add(old.directoryAt / clusterSize, Math.ceil(old.directorySize / clusterSize));
    let entryAt: number = at;
    for (const row of rows) {
      row.entry = { ...row.entry, entryAt: hostOffset(entryAt) };
      entryAt += bitmapEntryLength(row.entry.name);
    }
    this.#opening = Promise.resolve(rows);
  }
}

function judgeName(name: string): void {
  const length = Buffer.byteLength(name);
  if (length === 0) throw new DiskError('invalid', 'Bitmap name cannot be empty');
  if (length > MAX_BITMAP_NAME)
    throw new DiskError('invalid', `Bitmap name is too long, at most ${MAX_BITMAP_NAME} bytes`);
  if (name.includes('\0')) throw new DiskError('invalid', 'Bitmap name has a NUL in it');
}
