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

/** The memory that the bitmaps of one image may take together. */
export function newRoom(): MemoryRoom {
  return { left: mostMemory };
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
): Promise<BitsPlace[]> {
  const places = new Array<BitsPlace>(entry.tableEntries).fill('zeros');
  await forEachWord(file, entry.tableAt, entry.tableEntries, nothing, (high, low, index) => {
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
  room: MemoryRoom,
): Promise<DirtyBitmap> {
  const { name, granularity, tableAt } = entry;
  if (bitmapClusters(geometry, size, granularity) !== entry.tableEntries) {
    throw new DiskError('corrupt', `Could not read bitmap '${name}' from image`, {
      offset: tableAt,
      spec: SPEC,
    });
  }
  const places = await readBitmapTable(file, geometry, entry);
  const stored = places.filter((place) => typeof place === 'number').length * geometry.clusterSize;
  if (stored * perStoredByte > room.left) {
    const message = `the bitmaps of this image take more than ${mostMemory} bytes of memory`;
    throw new DiskError('limit', message, { offset: tableAt, spec: SPEC });
  }
  const bitmap = new DirtyBitmap(size, granularity, room);
  const bits = Buffer.allocUnsafe(geometry.clusterSize);
  const reach = geometry.clusterSize * 8 * granularity;
  for (const [index, place] of places.entries()) {
    if (place === 'zeros') continue;
    if (place === 'ones') {
      bitmap.set(index * reach, Math.min(reach, size - index * reach));
      continue;
    }
    await readAt(file, bits, place);
    bitmap.importBits(index * geometry.clusterSize * 8, bits);
  }
  return bitmap;
}

/** Bytes of memory that a stored byte takes at most. */
const perStoredByte = 1.5;

const nothing = (): void => undefined;
