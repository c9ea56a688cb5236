/**
 * Making a range read as zeros.
 *
 * Whole clusters become zero clusters: without a place in the file, or with one in reserve if the caller
 * wants the space kept. A cluster at the edge of the range becomes one too if the rest of it reads as zeros
 * already; otherwise zeros are written into it. Version 2 has no zero clusters: there a cluster becomes
 * unallocated if nothing is below it, and zeros are written if something is.
 *
 * Spec: qcow2.txt, "Cluster mapping", Standard Cluster Descriptor, bit 0.
 */
import { type BlockSource, DiskError, type ZeroOptions } from '@strata/block';
import { isZeroBelow } from './copy-up.ts';
import { dropClusters, wholeClusters } from './discard.ts';
import {
  ClusterKind,
  clusterKind,
  encodeHigh,
  encodeZeroLow,
  entryHigh,
  entryLow,
  entryOffset,
  setEntry,
} from './entries.ts';
import { clusterIndexOf, hostOffset } from './geometry.ts';
import type { Image } from './image.ts';
import { corruptEntry } from './mapping.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';
import { writeClusters } from './write.ts';

const ZEROS = new Uint8Array(256 * 1024);

/** Makes a range inside the disk read as zeros. As `Layer.zero`. */
export async function zero(
  image: Image,
  offset: number,
  length: number,
  below: BlockSource,
  how: ZeroOptions,
): Promise<void> {
  await image.holdClusters(offset, length, () => zeroHeld(image, offset, offset + length, below, how));
}

async function zeroHeld(
  image: Image,
  from: number,
  to: number,
  below: BlockSource,
  how: ZeroOptions,
): Promise<void> {
  const { clusterSize, version } = image.geometry;
  const hasZeroClusters = version >= 3 || !(image.hasBacking || how.allocate === true);
  if (!hasZeroClusters) {
    refuseIfFast(how);
    return writeZeros(image, from, to, below);
  }
  let { first, end } = wholeClusters(image, from, to);
  const written: { readonly from: number; readonly to: number }[] = [];
  for (const edge of edgesAround(from, to, first * clusterSize, end * clusterSize)) {
    const cluster = Math.floor(edge.from / clusterSize);
    const outcome = await judgeEdge(image, edge.from, edge.to, below, how);
    if (outcome === 'write') {
      written.push(edge);
    } else if (outcome === 'whole') {
      if (first > end) end = first = cluster;
      first = Math.min(first, cluster);
      end = Math.max(end, cluster + 1);
    }
  }
  if (written.length > 0) refuseIfFast(how);
  for (const edge of written) await writeZeros(image, edge.from, edge.to, below);
  if (first >= end) return;
  if (how.allocate === true) await reserveClusters(image, first, end);
  else await dropClusters(image, first, end, { unallocatedToo: true });
}

/** The parts of a range outside its whole clusters; each lies in one cluster. */
function edgesAround(
  from: number,
  to: number,
  wholeFrom: number,
  wholeTo: number,
): { readonly from: number; readonly to: number }[] {
  if (wholeFrom > wholeTo) return [{ from, to }];
  const edges = [
    { from, to: Math.min(wholeFrom, to) },
    { from: Math.max(wholeTo, from), to },
  ];
  return edges.filter((edge) => edge.from < edge.to);
}

function refuseIfFast(how: ZeroOptions): void {
  if (how.fast !== true) return;
  throw new DiskError('not-supported', 'the range cannot be zeroed without writing zeros');
}

/** What has to be done with a cluster of which a part becomes zeros. */
async function judgeEdge(
  image: Image,
  from: number,
  to: number,
  below: BlockSource,
  how: ZeroOptions,
): Promise<'nothing' | 'whole' | 'write'> {
  const { geometry } = image;
  const { clusterSize, l2Entries, l2Reach } = geometry;
  const cluster = Math.floor(from / clusterSize);
  const table = await image.l2.get(Math.floor(from / l2Reach));
  const index = cluster % l2Entries;
  const high = table === NO_TABLE ? 0 : entryHigh(table.view, index);
  const low = table === NO_TABLE ? 0 : entryLow(table.view, index);
  switch (clusterKind(geometry, high, low)) {
    case ClusterKind.corrupt:
      throw corruptEntry(geometry, table, index);
    case ClusterKind.zero:
    case ClusterKind.zeroAllocated:
      return how.allocate === true ? 'whole' : 'nothing';
    case ClusterKind.unallocated: {
      if (!image.hasBacking) return 'whole';
      const start = cluster * clusterSize;
      const end = Math.min(start + clusterSize, image.size);
      const isZero = (await isZeroBelow(below, start, from)) && (await isZeroBelow(below, to, end));
      return isZero ? 'whole' : 'write';
    }
    default:
      return 'write';
  }
}

/** Writes zeros into clusters that the caller holds. */
export async function writeZeros(image: Image, from: number, to: number, below: BlockSource): Promise<void> {
  for (let at = from; at < to; ) {
    const end = Math.min(to, (Math.floor(at / ZEROS.length) + 1) * ZEROS.length);
    await writeClusters(image, ZEROS.subarray(0, end - at), at, below);
    at = end;
  }
}

/** Makes clusters that the caller holds read as zeros, each with a place of its own in the file. */
async function reserveClusters(image: Image, first: number, end: number): Promise<void> {
  const { l2Entries } = image.geometry;
  for (let cluster = first; cluster < end; ) {
    const l1Index = Math.floor(cluster / l2Entries);
    const table = image.links.peek(l1Index);
    if (table === undefined) {
      await image.links.make(l1Index);
      continue;
    }
    const start = l1Index * l2Entries;
    cluster += await reserveRun(image, table, cluster - start, Math.min(end - start, l2Entries));
    const relief = image.barrier.relieve();
    if (relief !== undefined) await relief;
  }
}

/** Does it for some clusters from `index` on, and returns how many; none if it had to wait first. */
async function reserveRun(image: Image, table: ClusterTable, index: number, stop: number): Promise<number> {
  const kept = keepPlace(image, table, index);
  if (kept === 'kept') return 1;
  if (kept === 'load refcount') {
    const at = entryOffset(entryHigh(table.view, index), entryLow(table.view, index));
    await image.refcounts.get(clusterIndexOf(image.geometry, at));
    return 0;
  }
  let next = index + 1;
  while (next < stop && hasNoPlace(image, table, next)) next++;
  const run = image.allocator.tryAllocate(next - index) ?? (await image.allocator.allocate(next - index));
  try {
    const { clusterSize } = image.geometry;
    await image.file.zero(run.at, run.count * clusterSize, { allocate: true });
    await linkReserved(image, table.index, index, run);
  } catch (error) {
    await image.allocator.release(run).catch(() => undefined);
    throw error;
  }
  return run.count;
}

/** Sets the zero flag of a cluster that has a place of its own. */
function keepPlace(image: Image, table: ClusterTable, index: number): 'kept' | 'load refcount' | undefined {
  const { geometry, links, l2 } = image;
  const high = entryHigh(table.view, index);
  const low = entryLow(table.view, index);
  const kind = clusterKind(geometry, high, low);
  if (kind === ClusterKind.corrupt) throw corruptEntry(geometry, table, index);
  if (kind !== ClusterKind.data && kind !== ClusterKind.zeroAllocated) return undefined;
  const ours = links.isOurs(high, low);
  if (ours === undefined) return 'load refcount';
  if (!ours) return undefined;
  const at = entryOffset(high, low);
  setEntry(table.view, index, encodeHigh(at, true), encodeZeroLow(at));
  l2.changed(table, index * 8, index * 8 + 8);
  return 'kept';
}

function hasNoPlace(image: Image, table: ClusterTable, index: number): boolean {
  const kind = clusterKind(image.geometry, entryHigh(table.view, index), entryLow(table.view, index));
  return kind === ClusterKind.unallocated || kind === ClusterKind.zero || kind === ClusterKind.compressed;
}

async function linkReserved(
  image: Image,
  l1Index: number,
  index: number,
  run: { readonly at: number; readonly count: number },
): Promise<void> {
  const { links, l2, geometry } = image;
  let table = links.peek(l1Index);
  while (table === undefined) {
    await links.make(l1Index);
    table = links.peek(l1Index);
  }
  for (let i = 0; i < run.count; i++) {
    const high = entryHigh(table.view, index + i);
    const low = entryLow(table.view, index + i);
    const at = hostOffset(run.at + i * geometry.clusterSize);
    setEntry(table.view, index + i, encodeHigh(at, true), encodeZeroLow(at));
    links.drop(high, low);
  }
  l2.changed(table, index * 8, (index + run.count) * 8);
}
