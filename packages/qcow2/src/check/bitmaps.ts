/**
 * The stored bitmaps, as a check sees them: their tables and the clusters that those lead to.
 *
 * Spec: qcow2.txt, "Bitmap table".
 */
import { DiskError, type HostSource } from '@strata/block';
import type { BitmapEntry } from '../bitmaps.ts';
import { entryOffset, isBrokenBitmapEntry, offsetHigh, offsetLow } from '../entries.ts';
import { type Geometry, geometryOf } from '../geometry.ts';
import type { Header } from '../header.ts';
import { forEachWord } from '../table-reader.ts';
import { say } from './sentences.ts';
import type { CheckState, MetadataBudget } from './state.ts';

/**
 * Judges the bitmaps that are not in use, as QEMU does when it opens an image.
 *
 * @throws {DiskError} corrupt, limit
 */
export async function checkBitmapTables(
  file: HostSource,
  header: Header,
  bitmaps: readonly BitmapEntry[],
  budget: MetadataBudget,
): Promise<void> {
  const geometry = geometryOf(header);
  for (const bitmap of bitmaps.filter(({ inUse }) => !inUse)) {
    const where = { offset: bitmap.tableAt, spec: 'qcow2.txt, "Bitmap table"' };
    if (bitmap.tableAt >= 2 ** 63 || (await isBroken(file, geometry, bitmap, budget))) {
      const message = `Could not read bitmap_table table from image for bitmap '${bitmap.name}'`;
      throw new DiskError('corrupt', message, where);
    }
    // Bits are stored in words of 64.
    const words = Math.ceil(header.size / bitmap.granularity / 64);
    if (Math.ceil((words * 8) / geometry.clusterSize) !== bitmap.tableEntries)
      throw new DiskError('corrupt', `Could not read bitmap '${bitmap.name}' from image`, where);
  }
}

/** Counts what the bitmaps reference. False: a table of a bitmap in use is broken. */
export async function countBitmaps(state: CheckState, bitmaps: readonly BitmapEntry[]): Promise<boolean> {
  const { file, header, geometry, references, findings, budget } = state;
  const { bitmaps: extension } = header.extensions;
  if (extension === undefined) return true;
  references.count(extension.directoryAt, extension.directorySize);
  for (const bitmap of bitmaps) {
    references.count(bitmap.tableAt, bitmap.tableEntries * 8);
    if (bitmap.inUse && (await isBroken(file, geometry, bitmap, budget))) {
      findings.corruption(1, say.brokenBitmapTable, bitmap.name);
      return false;
    }
    const visit = (high: number, low: number): void => {
      const at = entryOffset(high, low);
      if (at !== 0) references.count(at, geometry.clusterSize, 1, offsetHigh(high), offsetLow(low));
    };
    await forEachWord(file, bitmap.tableAt, bitmap.tableEntries, (bytes) => budget.spend(bytes), visit);
  }
  return true;
}

async function isBroken(
  file: HostSource,
  geometry: Geometry,
  bitmap: BitmapEntry,
  budget: MetadataBudget,
): Promise<boolean> {
  let broken = false;
  const visit = (high: number, low: number): void => {
    broken ||= isBrokenBitmapEntry(geometry, high, low);
  };
  await forEachWord(file, bitmap.tableAt, bitmap.tableEntries, (bytes) => budget.spend(bytes), visit);
  return broken;
}
