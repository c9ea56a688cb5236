/**
 * Writes the bits of a bitmap over what its table leads to.
 *
 * In place: the bitmap must be marked in use in the file, durably, so that nobody believes it meanwhile. Clusters of
 * bits that are all alike are not stored; the table says so.
 *
 * Spec: qcow2.txt, "Bitmap table" and "Bitmap data"
 */
import type { DirtyBitmap } from '@strata/bitmap';
import type { HostFile } from '@strata/block';
import type { Allocator } from './allocate.ts';
import { type BitsPlace, readBitmapTable } from './bitmap-content.ts';
import type { BitmapEntry } from './bitmaps.ts';
import type { Geometry, HostOffset } from './geometry.ts';
import type { Structures } from './overlap.ts';
import type { Quarantine } from './quarantine.ts';

/** What storing changes. */
export interface StoringParts {
  readonly file: HostFile;
  readonly geometry: Geometry;
  readonly allocator: Allocator;
  readonly quarantine: Quarantine;
  readonly structures: Structures;
}

/** A table of clusters of bits, and its place. */
export interface BitmapTable {
  readonly tableAt: HostOffset;
  readonly tableEntries: number;
}

/**
 * Stores `bitmap`. `wanted` is the table's length for the disk as it is now; if it is another one than the entry's, a new
 * table is made, which the directory must be led to. The table that is returned is in the file after the next barrier.
 *
 * @throws {DiskError} corrupt, no-space, io
 */
export async function storeBits(
  parts: StoringParts,
  entry: BitmapEntry,
  bitmap: DirtyBitmap,
  wanted: number,
): Promise<BitmapTable> {
  const { file, geometry, structures } = parts;
  const { clusterSize } = geometry;
  const old = await readBitmapTable(file, geometry, entry);
  const places: BitsPlace[] = [];
  const bits = Buffer.alloc(clusterSize);
  for (let index = 0; index < wanted; index++) {
    bitmap.exportBits(index * clusterSize * 8, bits);
    const before = old[index];
    const alike = whichAlike(bits);
    if (alike !== undefined) {
      places.push(alike);
      if (typeof before === 'number') parts.quarantine.add(before / clusterSize);
      continue;
    }
    const at = typeof before === 'number' ? before : (await parts.allocator.allocate(1)).at;
    structures.check(at, clusterSize);
    await file.write(bits, at);
    places.push(at);
  }
  for (const place of old.slice(wanted)) {
    if (typeof place === 'number') parts.quarantine.add(place / clusterSize);
  }
  const table = await tableFor(parts, entry, wanted);
  structures.check(table.tableAt, wanted * 8);
  await file.write(encodeTable(places), table.tableAt);
  return table;
}

/** Gives back a bitmap's table and its bits, once the directory that led to them is gone. */
export async function freeBits(parts: StoringParts, entry: BitmapEntry): Promise<void> {
  const { clusterSize } = parts.geometry;
  for (const place of await readBitmapTable(parts.file, parts.geometry, entry)) {
    if (typeof place === 'number') parts.quarantine.add(place / clusterSize);
  }
  freeTable(parts, entry);
}

/** A new table that says that all is clean; in the file after the next barrier. @throws {DiskError} no-space */
export async function newTable(parts: StoringParts, entries: number): Promise<BitmapTable> {
  const { clusterSize } = parts.geometry;
  const clusters = Math.ceil((entries * 8) / clusterSize);
  const { at, virgin } = await parts.allocator.allocateInOneRun(clusters);
  await parts.file.write(new Uint8Array(virgin ? entries * 8 : clusters * clusterSize), at);
  return { tableAt: at, tableEntries: entries };
}

async function tableFor(parts: StoringParts, entry: BitmapEntry, wanted: number): Promise<BitmapTable> {
  if (wanted === entry.tableEntries) return entry;
  const table = await newTable(parts, wanted);
  freeTable(parts, entry);
  return table;
}

function freeTable({ geometry, quarantine }: StoringParts, { tableAt, tableEntries }: BitmapTable): void {
  const { clusterSize } = geometry;
  quarantine.add(tableAt / clusterSize, Math.ceil((tableEntries * 8) / clusterSize));
}

function whichAlike(bits: Buffer): 'zeros' | 'ones' | undefined {
  const [first] = bits;
  if (first !== 0 && first !== 0xff) return undefined;
  if (bits.length > 1 && bits.compare(bits, 1, bits.length, 0, bits.length - 1) !== 0) return undefined;
  return first === 0 ? 'zeros' : 'ones';
}

function encodeTable(places: readonly BitsPlace[]): Buffer {
  const bytes = Buffer.alloc(places.length * 8);
  places.forEach((place, index) => {
    if (place !== 'zeros') bytes.writeBigUInt64BE(place === 'ones' ? 1n : BigInt(place), index * 8);
  });
  return bytes;
}
