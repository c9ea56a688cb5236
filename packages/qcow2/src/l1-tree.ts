/**
 * All that an L1 table leads to: its L2 tables and the clusters in these, for the changes that concern every
 * one of them.
 *
 * Each L2 table is read once, however many entries lead to it, so that the work is linear in the size of the
 * file. Nothing may change meanwhile, and the tables in memory must be those in the file.
 *
 * Spec: qcow2.txt, "Cluster mapping".
 */
import { DiskError } from '@strata/block';
import {
  describeL1,
  encodeHigh,
  encodeLow,
  entryHigh,
  entryLow,
  entryOffset,
  isCompressed,
  isExclusive,
  isUnaligned,
  setEntry,
  tableOf,
} from './entries.ts';
import { clusterIndexOf, hostOffset } from './geometry.ts';
import type { Image } from './image.ts';
import { compressedClusters } from './links.ts';
import type { Renewal } from './renewal.ts';
import { readAt } from './table-reader.ts';

/** An L1 table in memory. */
export interface L1Tree {
  readonly words: DataView;
  readonly entries: number;
  /** How many entries lead to the L2 table at an offset. */
  readonly tables: ReadonlyMap<number, number>;
}

/** Reads `count` entries at `at` into a table of `entries`. @throws {DiskError} corrupt, limit */
export async function readTree(image: Image, at: number, count: number, entries = count): Promise<L1Tree> {
  const bytes = Buffer.alloc(entries * 8);
  await readAt(image.file, bytes.subarray(0, count * 8), at);
  const words = tableOf(bytes);
  const tables = new Map<number, number>();
  for (let index = 0; index < count; index++) {
    const entry = describeL1(image.geometry, entryHigh(words, index), entryLow(words, index));
    if (entry.kind === 'corrupt')
      throw corrupt(`${entry.why} (L1 index: 0x${index.toString(16)})`, at + index * 8);
    if (entry.kind === 'unallocated') continue;
    if (entry.at >= image.file.size) throw behindEnd('an L2 table', entry.at);
    tables.set(entry.at, (tables.get(entry.at) ?? 0) + 1);
  }
  return { words, entries, tables };
}

/**
 * Hands all clusters that a tree uses to `visit`, with how often: the L2 tables, and what these lead to.
 *
 * @throws {DiskError} corrupt
 */
export async function forEachUse(
  image: Image,
  { tables }: L1Tree,
  visit: (cluster: number, times: number) => void,
): Promise<void> {
  const { geometry, file } = image;
  const { clusterSize, l2Entries, l2EntrySize } = geometry;
  const end = Math.ceil(file.size / clusterSize) + 1;
  const stride = l2EntrySize / 8;
  const bytes = Buffer.alloc(clusterSize);
  const table = tableOf(bytes);
  for (const [at, times] of tables) {
    visit(clusterIndexOf(geometry, at), times);
    await readAt(file, bytes, at);
    for (let index = 0; index < l2Entries; index++) {
      const high = entryHigh(table, index * stride);
      const low = entryLow(table, index * stride);
      if (isCompressed(high)) {
        const { first, count } = compressedClusters(geometry, high, low);
        if (first + count > end) throw behindEnd('compressed data', first * clusterSize);
        for (let cluster = first; cluster < first + count; cluster++) visit(cluster, times);
        continue;
      }
      const data = entryOffset(high, low);
      if (data === 0) continue;
      if (isUnaligned(geometry, low))
        throw corrupt(`Cluster allocation offset 0x${data.toString(16)} unaligned`, at + index * l2EntrySize);
      const cluster = data / clusterSize;
      if (cluster >= end) throw behindEnd('a cluster', data);
      visit(cluster, times);
    }
  }
}

/** An L2 table that goes to a new place. */
export interface MovedTable {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/**
 * Sets the `exclusive` flags of an L1 table and its L2 tables as the next counts have them. L2 tables with a
 * flag that changes go to a new place; they are handed to `write`, and the words of the tree lead there.
 * `copies` other L1 tables will be copies of this one, and use its L2 tables too.
 *
 * @throws {DiskError} corrupt, no-space
 */
export async function mendFlags(
  image: Image,
  { words, entries, tables }: L1Tree,
  renewal: Renewal,
  copies: number,
  write: (moved: MovedTable) => Promise<void>,
): Promise<void> {
  const { geometry, file } = image;
  const moved = new Map<number, number>();
  for (const [at, times] of tables) {
    const bytes = Buffer.alloc(geometry.clusterSize);
    await readAt(file, bytes, at);
    if (!(await mendTable(image, tableOf(bytes), renewal))) continue;
    const place = await renewal.allocate(1);
    // The first use was counted when the place was taken.
    if (times * (1 + copies) > 1) renewal.add(place / geometry.clusterSize, times * (1 + copies) - 1);
    renewal.remove(at / geometry.clusterSize, times * (1 + copies));
    moved.set(at, place);
    await write({ at: place, bytes });
  }
  for (let index = 0; index < entries; index++) {
    const old = entryOffset(entryHigh(words, index), entryLow(words, index));
    if (old === 0) continue;
    const at = hostOffset(moved.get(old) ?? old);
    const cluster = at / geometry.clusterSize;
    const uses = renewal.tryUses(cluster) ?? (await renewal.uses(cluster));
    setEntry(words, index, encodeHigh(at, uses === 1), encodeLow(at));
  }
}

async function mendTable(image: Image, table: DataView, renewal: Renewal): Promise<boolean> {
  const { clusterSize, l2Entries, l2EntrySize } = image.geometry;
  const stride = l2EntrySize / 8;
  let changed = false;
  for (let index = 0; index < l2Entries; index++) {
    const high = entryHigh(table, index * stride);
    const low = entryLow(table, index * stride);
    if ((high === 0 && low === 0) || isCompressed(high)) continue;
    const at = entryOffset(high, low);
    if (at === 0) continue;
    const uses = renewal.tryUses(at / clusterSize) ?? (await renewal.uses(at / clusterSize));
    if ((uses === 1) === isExclusive(high)) continue;
    setEntry(table, index * stride, encodeHigh(at, uses === 1), low);
    changed = true;
  }
  return changed;
}

function behindEnd(what: string, at: number): DiskError {
  return corrupt(`${what} lies behind the end of the file, at 0x${at.toString(16)}`, at);
}

function corrupt(message: string, offset: number): DiskError {
  return new DiskError('corrupt', message, { offset, spec: 'qcow2.txt, "Cluster mapping"' });
}
