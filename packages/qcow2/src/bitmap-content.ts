/**
 * The content of a stored bitmap: its table, and the clusters of bits that the table leads to.
 *
 * A table entry stands for a cluster of bits, all zeros, all ones or stored. Only stored ones cost memory, and what
 * all bitmaps of an image may cost together is bounded before any of it is read.
 *
 * Spec: qcow2.txt, "Bitmap table" and "Bitmap data"
 */
import { DirtyBitmap, type MemoryRoom, mostMemory } from '@strata/bitmap';
import { DiskError, type HostSource } from '@strata/block';
import type { BitmapEntry } from './bitmaps.ts';
import { describeBitmapTable } from './entries.ts';
import type { Geometry, HostOffset } from './geometry.ts';
import { forEachWord, readAt } from './table-reader.ts';

const SPEC = 'qcow2.txt, "Bitmap table"';

/**
 * What loading the bitmaps of one image may take: memory, which they keep, and bytes of tables and bits. Those of a sound
 * image do not overlap, so only an image that was made to keep its reader busy has more of them than its file.
 */
export class LoadBudget {
  readonly room: MemoryRoom = { left: mostMemory };
  #bytes: number;

  constructor(fileSize: number) {
    this.#bytes = 2 * fileSize + 64 * 1024 * 1024;
  }

  /** Call it before each read. @throws {DiskError} limit */
  spend(bytes: number): void {
    this.#bytes -= bytes;
    if (this.#bytes < 0)
      throw new DiskError('limit', 'tables of bitmaps overlap: there is more in them than in the file');
  }
}

/** Clusters of bits that a bitmap of a disk of `size` bytes has. */
export function bitmapClusters(geometry: Geometry, size: number, granularity: number): number {
  // Bits are kept in words of 64.
  return Math.ceil((Math.ceil(size / granularity / 64) * 8) / geometry.clusterSize);
}

/** Where one cluster of bits is kept. */
export type BitsPlace = 'zeros' | 'ones' | HostOffset;

/**
 * The table of a bitmap, judged.
 *
 * @throws {DiskError} corrupt, limit
 */
export async function readBitmapTable(
  file: HostSource,
  geometry: Geometry,
  entry: Pick<BitmapEntry, 'name' | 'tableAt' | 'tableEntries'>,
  beforeRead: (bytes: number) => void = () => undefined,
): Promise<BitsPlace[]> {
  const places = new Array<BitsPlace>(entry.tableEntries).fill('zeros');
  await forEachWord(file, entry.tableAt, entry.tableEntries, beforeRead, (high, low, index) => {
    const place = describeBitmapTable(geometry, high, low);
    if (place.kind === 'corrupt') {
      const message = `Could not read bitmap_table table from image for bitmap '${entry.name}': ${place.why}`;
      throw new DiskError('corrupt', message, { offset: entry.tableAt + index * 8, spec: SPEC });
    }
    if (index < places.length) places[index] = place.kind === 'stored' ? place.at : place.kind;
  });
  return places;
}

/**
 * The bitmap of a disk of `size` bytes.
 *
 * @throws {DiskError} corrupt, limit, io
 */
export async function loadBitmap(
  file: HostSource,
  geometry: Geometry,
  size: number,
  entry: BitmapEntry,
  budget: LoadBudget,
): Promise<DirtyBitmap> {
  const { name, granularity, tableAt } = entry;
  if (bitmapClusters(geometry, size, granularity) !== entry.tableEntries) {
    throw new DiskError('corrupt', `Could not read bitmap '${name}' from image`, {
      offset: tableAt,
      spec: SPEC,
    });
  }
  const { room } = budget;
  const places = await readBitmapTable(file, geometry, entry, (bytes) => budget.spend(bytes));
  const stored = places.filter((place) => typeof place === 'number').length * geometry.clusterSize;
  if (stored * perStoredByte > room.left) {
    const message = `the bitmaps of this image take more than ${mostMemory} bytes of memory`;
    throw new DiskError('limit', message, { offset: tableAt, spec: SPEC });
  }
  budget.spend(stored);
  const bitmap = new DirtyBitmap(size, granularity, room);
  const bits = Buffer.allocUnsafe(geometry.clusterSize);
  const reach = geometry.clusterSize * 8 * granularity;
  for (let index = 0; index < places.length; index++) {
    const place = places[index] as BitsPlace;
    if (place === 'zeros') continue;
    if (place !== 'ones') {
      await readAt(file, bits, place);
      bitmap.importBits(index * geometry.clusterSize * 8, bits);
      continue;
    }
    const first = index;
    while (places[index + 1] === 'ones') index++;
    bitmap.set(first * reach, Math.min((index + 1) * reach, size) - first * reach);
  }
  return bitmap;
}

/** Bytes of memory that a stored byte takes at most. */
const perStoredByte = 1.5;
