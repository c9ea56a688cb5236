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
  type BitmapKeeper,
  type DirtyBitmap,
  keptBitmap,
  type MemoryRoom,
  type NamedBitmap,
  type NewBitmap,
} from '@strata/bitmap';
import { DiskError } from '@strata/block';
import type { Barrier } from './barrier.ts';
import { bitmapClusters, LoadBudget, loadBitmap } from './bitmap-content.ts';
import { freeBits, newTable, type StoringParts, storeBits } from './bitmap-storing.ts';
import {
  type BitmapEntry,
  bitmapEntryLength,
  encodeBitmapState,
  encodeDirectory,
  listBitmaps,
  readExtra,
} from './bitmaps.ts';
import { Autoclear, MAX_BITMAP_BYTES, MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAPS } from './format.ts';
import { hostOffset } from './geometry.ts';
import { type Header, readHeader } from './header.ts';
import { rewriteHeader } from './header-rewrite.ts';

/** What the bitmaps of an image stand on. */
export interface ImageBitmapsParts extends StoringParts {
  readonly barrier: Barrier;
  /** Bytes of the disk, now. */
  size(): number;
  /** Runs what changes bitmaps while nothing else changes the image, with the file ready for changes. */
  exclusively(change: () => Promise<void>): Promise<void>;
  /** There are bitmaps now, which must be told of changes. */
  appeared(): void;
}

/** A bitmap of the image, with its entry as the file has it. */
type Row = NamedBitmap<BitmapEntry>;

/** Keeps the bitmaps of one open image in its file. */
export class ImageBitmaps implements BitmapKeeper<BitmapEntry> {
  readonly storesAnySize = false;
  readonly #parts: ImageBitmapsParts;
  readonly #budget: LoadBudget;

  constructor(parts: ImageBitmapsParts) {
    this.#parts = parts;
    this.#budget = new LoadBudget(parts.file.size);
  }

  get room(): MemoryRoom {
    return this.#budget.room;
  }

  get defaultGranularity(): number {
    return Math.min(Math.max(this.#parts.geometry.clusterSize, 4096), 65_536);
  }

  size(): number {
    return this.#parts.size();
  }

  exclusively(change: () => Promise<void>): Promise<void> {
    return this.#parts.exclusively(change);
  }

  appeared(): void {
    this.#parts.appeared();
  }

  async read(): Promise<readonly Row[]> {
    const { file } = this.#parts;
    return (await listBitmaps(file, await readHeader(file))).map((entry) => {
      const { name, granularity, auto, inUse } = entry;
      return keptBitmap({ name, granularity, enabled: auto, inconsistent: inUse }, entry);
    });
  }

  load(row: Row): Promise<DirtyBitmap> {
    const { file, geometry, size } = this.#parts;
    return loadBitmap(file, geometry, size(), keptEntry(row), this.#budget);
  }

  async markInUse(rows: readonly Row[]): Promise<void> {
    const unmarked = rows.filter((row) => !keptEntry(row).inUse);
    if (unmarked.length === 0) return;
    for (const row of unmarked) row.kept = { ...keptEntry(row), inUse: true };
    await this.#writeStates(unmarked);
  }

  judge(rows: readonly Row[], { granularity }: NewBitmap): void {
    const { geometry, size } = this.#parts;
    if (geometry.version < 3)
      throw new DiskError('not-supported', 'Cannot store dirty bitmaps in qcow2 v2 files');
    if (rows.length >= MAX_BITMAPS)
      throw new DiskError('limit', 'Maximum number of persistent bitmaps is already reached');
    const clusters = bitmapClusters(geometry, size(), granularity);
    if (clusters * geometry.clusterSize > MAX_BITMAP_BYTES) {
      const message = 'Too much space will be occupied by the bitmap. Use larger granularity';
      throw new DiskError('limit', message);
    }
  }

  async add(row: Row, rows: readonly Row[]): Promise<void> {
    const { geometry, size } = this.#parts;
    const { name, granularity, enabled } = row;
    const facts = {
      name,
      granularity,
      inUse: enabled,
      auto: enabled,
      extraLength: 0,
      extraCompatible: false,
    };
    judgeDirectory([...rows.slice(0, -1).map(keptEntry), facts]);
    const table = await newTable(this.#parts, bitmapClusters(geometry, size(), granularity));
    row.kept = { ...facts, ...table, entryAt: hostOffset(0) };
    await this.#switchTo(rows);
  }

  async remove(row: Row, rows: readonly Row[]): Promise<void> {
    await this.#switchTo(rows);
    await freeBits(this.#parts, keptEntry(row));
  }

  async rename(rows: readonly Row[]): Promise<void> {
    const named = rows.map((row) => ({ ...keptEntry(row), name: row.name }));
    judgeDirectory(named);
    await this.#switchTo(rows, named);
  }

  /** In QEMU's order: bits and tables, then all that they tell of, then the states. */
  async store(rows: readonly Row[]): Promise<void> {
    const { file, barrier, geometry, size } = this.#parts;
    const stored = rows.filter((row) => row.changed || keptEntry(row).inUse);
    if (stored.length === 0) return;
    await this.markInUse(stored);
    for (const row of stored) {
      const entry = keptEntry(row);
      row.bitmap ??= await this.load(row);
      const wanted = bitmapClusters(geometry, size(), row.granularity);
      const { tableAt, tableEntries } = await storeBits(this.#parts, entry, row.bitmap, wanted);
      row.kept = { ...entry, tableAt, tableEntries };
    }
    await barrier.run();
    await this.#writeStates(stored);
    for (const row of stored) row.kept = { ...keptEntry(row), inUse: false, auto: row.enabled };
    await this.#writeStates(stored);
    await file.flush();
  }

  /** Each is one write of 16 bytes; where that crosses a sector, the half before the flags is the one that was there. */
  async #writeStates(rows: readonly Row[]): Promise<void> {
    const { file } = this.#parts;
    for (const entry of rows.map(keptEntry)) await file.write(encodeBitmapState(entry), entry.entryAt);
    await file.flush();
  }

  /** Makes `rows` the bitmaps of the file, with `entries`. What they lead to must be there after the next barrier. */
  async #switchTo(
    rows: readonly Row[],
    entries: readonly BitmapEntry[] = rows.map(keptEntry),
  ): Promise<void> {
    const { file, geometry, allocator, quarantine, barrier } = this.#parts;
    const { clusterSize } = geometry;
    let at = hostOffset(0);
    const whole = [];
    for (const entry of entries) whole.push({ ...entry, extra: await readExtra(file, entry) });
    const bytes = encodeDirectory(whole);
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
    for (const [index, row] of rows.entries()) {
      const entry = entries[index] as BitmapEntry;
      row.kept = { ...entry, entryAt: hostOffset(entryAt) };
      entryAt += bitmapEntryLength(entry);
    }
  }
}

function keptEntry({ kept }: Row): BitmapEntry {
  return kept as BitmapEntry;
}

/** @throws {DiskError} limit for a directory that QEMU would not read */
export function judgeDirectory(entries: readonly Pick<BitmapEntry, 'name' | 'extraLength'>[]): void {
  const length = entries.reduce((sum, entry) => sum + bitmapEntryLength(entry), 0);
  if (length > MAX_BITMAP_DIRECTORY_BYTES)
    throw new DiskError('limit', 'Not enough space in the bitmap directory');
}
