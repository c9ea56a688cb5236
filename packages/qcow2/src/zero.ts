/**
 * Making a range read as zeros.
 *
 * Whole clusters become zero clusters: without a place in the file, or with one in reserve if the caller
 * wants the space kept. Of a cluster with subclusters those in the range become zeros. What the edges of the
 * range cut becomes zeros as a whole too if the rest of it reads as zeros already; otherwise zeros are written
 * into it. Version 2 has no zero clusters: there a cluster becomes unallocated if nothing is below it, and
 * zeros are written if something is. A data file that must stay a raw image of the disk gets the zeros as well.
 *
 * Spec: qcow2.txt, "Cluster mapping", Standard Cluster Descriptor, bit 0, and "Extended L2 Entries".
 */
import { type BlockSource, DiskError, type ZeroOptions } from '@strata/block';
import { isZeroBelow } from './copy-up.ts';
import { dropClusters, wholeUnits } from './discard.ts';
import { encodeHigh, encodeLow } from './entries.ts';
import { hostOffset } from './geometry.ts';
import type { Image } from './image.ts';
import {
  allSubclusters,
  EntryForm,
  type L2Entry,
  NO_ENTRY,
  placeOf,
  SubclusterState,
  storeL2Entry,
  subclusterMask,
  subclusterState,
} from './l2-entry.ts';
import { needsPlace, soundEntry } from './pieces.ts';
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
  const { subclusterSize, version } = image.geometry;
  const hasZeroClusters = version >= 3 || !(image.hasBacking || how.allocate === true);
  if (!hasZeroClusters) {
    refuseIfFast(how);
    return writeZeros(image, from, to, below);
  }
  let { first, end } = wholeUnits(image, from, to, subclusterSize);
  const written: Range[] = [];
  for (const edge of edgesAround(from, to, first * subclusterSize, end * subclusterSize)) {
    const unit = Math.floor(edge.from / subclusterSize);
    const outcome = await judgeEdge(image, edge.from, edge.to, below, how);
    if (outcome === 'write') {
      written.push(edge);
    } else if (outcome === 'whole') {
      if (first > end) end = first = unit;
      first = Math.min(first, unit);
      end = Math.max(end, unit + 1);
    }
  }
  const { clusters, parts } = cutIntoClusters(image, first, end);
  const marked: Range[] = [];
  for (const part of parts) {
    if (await canBeMarked(image, part, how)) marked.push(part);
    else written.push({ from: part.from * subclusterSize, to: part.to * subclusterSize });
  }
  if (written.length > 0) refuseIfFast(how);
  if (image.isRawData) await image.space.file.zero(from, to - from, how);
  for (const range of written) await writeZeros(image, range.from, range.to, below);
  for (const part of marked) await markZeros(image, part);
  if (how.allocate === true) await reserveClusters(image, clusters.from, clusters.to);
  else await dropClusters(image, clusters.from, clusters.to, { unallocatedToo: true });
}

/** From `from` up to `to` (exclusive): bytes, subclusters or clusters. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/** Subclusters of the disk as whole clusters, and the parts of clusters before and after them. */
function cutIntoClusters(
  image: Image,
  first: number,
  end: number,
): { readonly clusters: Range; readonly parts: readonly Range[] } {
  const { subclusters } = image.geometry;
  if (first >= end) return { clusters: { from: 0, to: 0 }, parts: [] };
  const from = Math.ceil(first / subclusters);
  const to = Math.floor(end / subclusters);
  if (from > to) return { clusters: { from, to: from }, parts: [{ from: first, to: end }] };
  const parts = [
    { from: first, to: from * subclusters },
    { from: to * subclusters, to: end },
  ];
  return { clusters: { from, to }, parts: parts.filter((part) => part.from < part.to) };
}

/** The parts of a range outside its whole units; each lies in one unit. */
function edgesAround(from: number, to: number, wholeFrom: number, wholeTo: number): Range[] {
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

/** What has to be done with a subcluster of which a part becomes zeros. */
async function judgeEdge(
  image: Image,
  from: number,
  to: number,
  below: BlockSource,
  how: ZeroOptions,
): Promise<'nothing' | 'whole' | 'write'> {
  const { clusterSize, subclusterSize } = image.geometry;
  const unit = Math.floor(from / subclusterSize);
  const entry = await entryOf(image, Math.floor(from / clusterSize));
  switch (subclusterState(entry, unit % image.geometry.subclusters)) {
    case SubclusterState.zero:
      return how.allocate === true ? 'whole' : 'nothing';
    case SubclusterState.unallocated: {
      if (!image.hasBacking) return 'whole';
      const start = unit * subclusterSize;
      const end = Math.min(start + subclusterSize, image.size);
      const isZero = (await isZeroBelow(below, start, from)) && (await isZeroBelow(below, to, end));
      return isZero ? 'whole' : 'write';
    }
    default:
      return 'write';
  }
}

/** The entry of a guest cluster. @throws {DiskError} corrupt */
export async function entryOf(image: Image, cluster: number): Promise<L2Entry> {
  const { l2Entries } = image.geometry;
  const table = await image.l2.get(Math.floor(cluster / l2Entries));
  return table === NO_TABLE ? NO_ENTRY : soundEntry(image, table, cluster % l2Entries);
}

/** Writes zeros into clusters that the caller holds. */
export async function writeZeros(image: Image, from: number, to: number, below: BlockSource): Promise<void> {
  for (let at = from; at < to; ) {
    const end = Math.min(to, (Math.floor(at / ZEROS.length) + 1) * ZEROS.length);
    await writeClusters(image, ZEROS.subarray(0, end - at), at, below);
    at = end;
  }
}

/** True if setting bits is enough to make subclusters of one cluster zeros: it need not move or get a place. */
async function canBeMarked(image: Image, { from }: Range, how: ZeroOptions): Promise<boolean> {
  const { form } = await entryOf(image, Math.floor(from / image.geometry.subclusters));
  return how.allocate !== true && form !== EntryForm.compressed;
}

/** Makes subclusters of one cluster zeros. */
async function markZeros(image: Image, { from, to }: Range): Promise<void> {
  const { geometry, links, l2 } = image;
  const { subclusters, l2Entries, l2EntrySize } = geometry;
  const cluster = Math.floor(from / subclusters);
  const l1Index = Math.floor(cluster / l2Entries);
  let table = links.peek(l1Index);
  while (table === undefined) {
    await links.make(l1Index);
    table = links.peek(l1Index);
  }
  const index = cluster - l1Index * l2Entries;
  const entry = soundEntry(image, table, index);
  const zeroed = subclusterMask(from - cluster * subclusters, to - cluster * subclusters);
  storeL2Entry(geometry, table.view, index, {
    ...entry,
    zeros: (entry.zeros | zeroed) >>> 0,
    allocated: (entry.allocated & ~zeroed) >>> 0,
  });
  l2.changed(table, index * l2EntrySize, (index + 1) * l2EntrySize);
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
  const entry = soundEntry(image, table, index);
  if (entry.form === EntryForm.placed) {
    const ours = image.space.isOurs(entry.high, entry.low);
    if (ours === undefined) {
      await image.space.loadUses(placeOf(entry));
      return 0;
    }
    if (ours) {
      linkZeros(image, table, index, placeOf(entry));
      return 1;
    }
  }
  let next = index + 1;
  while (next < stop && needsPlace(image, table, next)) next++;
  const cluster = table.index * image.geometry.l2Entries + index;
  const { space } = image;
  const wanted = next - index;
  const run = space.tryAllocate(cluster, wanted) ?? (await space.allocate(cluster, wanted));
  try {
    const { clusterSize } = image.geometry;
    await space.file.zero(run.at, run.count * clusterSize, { allocate: true });
    await linkReserved(image, table.index, index, run);
  } catch (error) {
    await space.release(run).catch(() => undefined);
    throw error;
  }
  return run.count;
}

/** Makes an entry lead to a cluster all of which reads as zeros. */
function linkZeros({ geometry, l2 }: Image, table: ClusterTable, index: number, at: number): void {
  storeL2Entry(geometry, table.view, index, {
    high: encodeHigh(at, true),
    low: encodeLow(at),
    zeros: allSubclusters(geometry),
    allocated: 0,
  });
  l2.changed(table, index * geometry.l2EntrySize, (index + 1) * geometry.l2EntrySize);
}

async function linkReserved(
  image: Image,
  l1Index: number,
  index: number,
  run: { readonly at: number; readonly count: number },
): Promise<void> {
  const { links, geometry } = image;
  let table = links.peek(l1Index);
  while (table === undefined) {
    await links.make(l1Index);
    table = links.peek(l1Index);
  }
  for (let i = 0; i < run.count; i++) {
    const { high, low } = soundEntry(image, table, index + i);
    linkZeros(image, table, index + i, hostOffset(run.at + i * geometry.clusterSize));
    links.drop(high, low);
  }
}
