/**
 * Counting the clusters of an image with entries of another width.
 *
 * All refcount structures are written anew into clusters that are free, where nothing counts or reads them, and
 * one write to the header's first sector switches to them: width and table at once. In the new blocks the
 * old structures are free already. A power cut leaves the old structures or the new ones, and no leak. Whether
 * every refcount fits is found out before anything is written.
 *
 * Spec: qcow2.txt, "Header", refcount_order, and "Host cluster management".
 */
import { DiskError, type HostFile } from '@strata/block';
import { encodeHigh, encodeLow, setEntry, tableOf, writeRefcount } from './entries.ts';
import { KNOWN_AUTOCLEAR, MAX_REFCOUNT_TABLE_BYTES } from './format.ts';
import { type Geometry, geometryOf, hostOffset } from './geometry.ts';
import { refcountTablePatch } from './header-encode.ts';
import type { Image } from './image.ts';
import { NO_TABLE } from './tables.ts';

const SECTOR = 512;
const SPEC = 'qcow2.txt, "Host cluster management"';

/** Says how much of the work is done. */
export type AmendProgress = (done: number, total: number) => void;

/**
 * Throws if a refcount does not fit into `bits`.
 *
 * @throws {DiskError} limit, corrupt
 */
export async function judgeRefcountWidth(image: Image, bits: number): Promise<void> {
  await surveyCounts(image, widerGeometry(image, bits));
}

/**
 * Changes the width. The image must not be used any more: it is to be opened again.
 *
 * @throws {DiskError} limit, corrupt, no-space, io
 */
export async function changeRefcountWidth(
  image: Image,
  bits: number,
  progress: AmendProgress,
): Promise<void> {
  await image.holdSettled(async () => {
    const geometry = widerGeometry(image, bits);
    const regions = await surveyCounts(image, geometry);
    const layout = await layoutOf(image, geometry, regions);
    await writeStructures(image, geometry, layout, progress);
    await switchTo(image.file, geometry, layout);
  });
}

function widerGeometry(image: Image, bits: number): Geometry {
  return geometryOf({ ...image.header, refcountOrder: Math.log2(bits) });
}

/** The blocks of the new width that count anything, by number. @throws {DiskError} limit, corrupt */
async function surveyCounts(image: Image, next: Geometry): Promise<ReadonlySet<number>> {
  const { refcounts, geometry } = image;
  const { table, blocks } = refcounts;
  const { refcountBlockEntries, clusterSize } = geometry;
  const regions = new Set<number>();
  await table.loadAll();
  for (let region = 0; region < table.entries; region++) {
    if (table.high(region) === 0 && table.low(region) === 0) continue;
    const block = await blocks.get(region);
    // Otherwise a table that leads to one block a million times would keep us busy.
    if (blocks.isShared(block)) throw sharedBlock(block.at);
    const first = region * refcountBlockEntries;
    await eachCount(image, first, first + refcountBlockEntries, (cluster, count) => {
      if (count > next.refcountMax) throw tooLarge(next.refcountBits, cluster * clusterSize, count);
      regions.add(Math.floor(cluster / next.refcountBlockEntries));
    });
  }
  return regions;
}

function sharedBlock(at: number): DiskError {
  const message = `two entries of the refcount table lead to 0x${at.toString(16)}`;
  return new DiskError('corrupt', message, { offset: at, spec: SPEC });
}

function tooLarge(bits: number, at: number, count: number): DiskError {
  const where = `Cluster at offset 0x${at.toString(16)} has a refcount of ${count}`;
  const message = `Cannot decrease refcount entry width to ${bits} bits: ${where}`;
  return new DiskError('limit', message, { offset: at, spec: SPEC });
}

/** Where the new structures go, in clusters. */
interface Layout {
  readonly table: number;
  readonly tableClusters: number;
  /** The blocks, by the regions that they count. */
  readonly blocks: ReadonlyMap<number, number>;
}

/** Finds the lowest clusters that are free for them. @throws {DiskError} no-space, corrupt */
async function layoutOf(image: Image, next: Geometry, used: ReadonlySet<number>): Promise<Layout> {
  const { refcountBlockEntries, wordsPerCluster, clusterSize } = next;
  const regions = new Set(used);
  for (let tableClusters = 1; ; ) {
    if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES)
      throw new DiskError('no-space', 'the image is full: its refcount table cannot grow past 8 MiB');
    const wanted = [...regions].sort((a, b) => a - b);
    const table = await freeRun(image, 0, tableClusters);
    const blocks = new Map<number, number>();
    let from = 0;
    for (const region of wanted) {
      let place = await freeRun(image, from, 1);
      if (place >= table && place < table + tableClusters)
        place = await freeRun(image, table + tableClusters, 1);
      blocks.set(region, place);
      from = place + 1;
    }
    for (const cluster of [table, table + tableClusters - 1, ...blocks.values()])
      regions.add(Math.floor(cluster / refcountBlockEntries));
    const clustersNeeded = Math.ceil((Math.max(0, ...regions) + 1) / wordsPerCluster);
    if (regions.size === blocks.size && clustersNeeded <= tableClusters)
      return { table, tableClusters, blocks };
    tableClusters = Math.max(tableClusters, clustersNeeded);
  }
}

/** The first of `count` clusters in a row that nothing uses, from the cluster `from` on. */
async function freeRun({ refcounts }: Image, from: number, count: number): Promise<number> {
  let first = from;
  for (let cluster = from; cluster < first + count; cluster++)
    if ((refcounts.peek(cluster) ?? (await refcounts.get(cluster))) !== 0) first = cluster + 1;
  return first;
}

async function writeStructures(
  image: Image,
  geometry: Geometry,
  layout: Layout,
  progress: AmendProgress,
): Promise<void> {
  const { file, structures } = image;
  const { clusterSize, refcountBlockEntries, refcountOrder } = geometry;
  const gone = oldStructures(image);
  const made = [...layout.blocks.values()];
  for (let i = 0; i < layout.tableClusters; i++) made.push(layout.table + i);
  for (const cluster of made) structures.check(cluster * clusterSize, clusterSize, 'refcount block');
  const table = tableOf(new Uint8Array(layout.tableClusters * clusterSize));
  const bytes = new Uint8Array(clusterSize);
  const block = tableOf(bytes);
  let done = 0;
  for (const [region, place] of layout.blocks) {
    const from = region * refcountBlockEntries;
    const end = from + refcountBlockEntries;
    bytes.fill(0);
    await eachCount(image, from, end, (cluster, count) => {
      writeRefcount(block, cluster - from, refcountOrder, gone.has(cluster) ? count - 1 : count);
    });
    for (const cluster of made)
      if (cluster >= from && cluster < end) writeRefcount(block, cluster - from, refcountOrder, 1);
    const at = hostOffset(place * clusterSize);
    await file.write(bytes, at);
    setEntry(table, region, encodeHigh(at, false), encodeLow(at));
    progress(++done, layout.blocks.size);
  }
  await file.write(new Uint8Array(table.buffer), layout.table * clusterSize);
  await file.flush();
}

/** The clusters of the structures in use, which hold one use each of themselves. */
function oldStructures({ refcounts, geometry }: Image): ReadonlySet<number> {
  const { table, blocks } = refcounts;
  const { clusterSize, wordsPerCluster } = geometry;
  const clusters = new Set<number>();
  for (let i = 0; i < table.entries / wordsPerCluster; i++) clusters.add(table.at / clusterSize + i);
  for (let region = 0; region < table.entries; region++) {
    const entry = blocks.describe(table.high(region), table.low(region), region);
    if (entry.kind === 'table') clusters.add(entry.at / clusterSize);
  }
  return clusters;
}

/** Hands the refcounts of the clusters `from` up to `to` to `visit`, those that are not 0. */
async function eachCount(
  { refcounts, geometry }: Image,
  from: number,
  to: number,
  visit: (cluster: number, count: number) => void,
): Promise<void> {
  const { refcountBlockEntries } = geometry;
  for (let cluster = from; cluster < to; ) {
    const region = Math.floor(cluster / refcountBlockEntries);
    const end = Math.min(to, (region + 1) * refcountBlockEntries);
    if (region >= refcounts.table.entries) return;
    const block = await refcounts.blocks.get(region);
    const start = region * refcountBlockEntries;
    for (; block !== NO_TABLE && cluster < end; cluster++) {
      const count = refcounts.read(block, cluster - start);
      if (count !== 0) visit(cluster, count);
    }
    cluster = end;
  }
}

async function switchTo(file: HostFile, next: Geometry, { table, tableClusters }: Layout): Promise<void> {
  const sector = Buffer.alloc(SECTOR);
  await file.read(sector, 0);
  const { offset, bytes } = refcountTablePatch(table * next.clusterSize, tableClusters);
  sector.set(bytes, offset);
  sector.writeBigUInt64BE(sector.readBigUInt64BE(88) & KNOWN_AUTOCLEAR, 88);
  sector.writeUInt32BE(next.refcountOrder, 96);
  await file.write(sector.subarray(offset, 100), offset);
  await file.flush();
}
