/**
 * Emptying an image: after a commit all of it is in the image below.
 *
 * Everything is dropped at one moment, the header's switch to a new L1 table of zeros; before it the file
 * holds the old image, after it the empty one, and a crash in between leaves leaks at most. What was dropped
 * is then given back: without snapshots by writing a minimal image (header, refcount table, one refcount
 * block, L1 table: the first clusters, as in a new image) and cutting the file after it; with snapshots, which
 * go on using some of it, cluster by cluster. The minimal image is written twice, for its clusters may be
 * taken by the structures in use: first to a place that is free, then, nothing else being in use, to the
 * front. Both times it is complete and durable before the header is switched to it.
 *
 * Spec: qcow2.txt, "Header", l1_table_offset and refcount_table_offset.
 */
import { encodeHigh, encodeLow, entryHigh, entryLow, setEntry, tableOf, writeRefcount } from './entries.ts';
import { clustersFor, hostOffset } from './geometry.ts';
import { l1Patch, refcountTablePatch } from './header-encode.ts';
import type { Image } from './image.ts';
import { WordTable } from './word-table.ts';

const CHUNK = new Uint8Array(256 * 1024);

/** Drops all that the image holds. As `Layer.empty`. */
export async function empty(image: Image): Promise<void> {
  await image.holdAll(async () => {
    const l1 = image.l2.parent;
    if (l1.entries === 0) return;
    await image.barrier.run();
    const old = new WordTable(image.file, l1.at, l1.entries);
    await dropAll(image);
    if (!(await compact(image))) await releaseAll(image, old);
    await emptyDataFile(image);
  });
}

/** Gives the space of an external data file back, now that nothing leads there any more. It is advice. */
async function emptyDataFile({ geometry, space }: Image): Promise<void> {
  if (geometry.externalData && space.file.size > 0)
    await space.file.discard(0, space.file.size).catch(() => undefined);
}

/** Switches to an L1 table of zeros. The clusters of the old one stay allocated. */
async function dropAll(image: Image): Promise<void> {
  const { l2, allocator, reader, geometry } = image;
  const l1 = l2.parent;
  const run = await allocator.allocateInOneRun(clustersFor(geometry, l1.entries * 8));
  l2.forgetAll();
  reader.compressed.forgetAll();
  l1.replace(run.at, l1.entries);
  await image.barrier.run();
}

/** Lets go of all that an L1 table, which is no longer in use, leads to, and of itself. */
async function releaseAll(image: Image, old: WordTable): Promise<void> {
  const { geometry, quarantine, links, file } = image;
  const { clusterSize, l2Entries, l2Words } = geometry;
  for (let index = 0; index < old.entries; index++) {
    await old.load(index);
    const entry = image.l2.describe(old.high(index), old.low(index), index);
    if (entry.kind !== 'table') continue;
    const bytes = new Uint8Array(clusterSize);
    await file.read(bytes, entry.at);
    const view = tableOf(bytes);
    for (let i = 0; i < l2Entries; i++) links.drop(entryHigh(view, i * l2Words), entryLow(view, i * l2Words));
    quarantine.add(entry.at / clusterSize);
    await image.barrier.relieve();
  }
  quarantine.add(old.at / clusterSize, clustersFor(geometry, old.entries * 8));
}

/** Where the parts of a minimal image are, in clusters. */
interface MinimalImage {
  readonly table: number;
  readonly block: number;
  readonly l1: number;
}

/** Cuts the file of an image that holds nothing to its minimum. False: it cannot, and nothing was done. */
async function compact(image: Image): Promise<boolean> {
  const { geometry, refcounts, header } = image;
  const { clusterSize, refcountBlockEntries, wordsPerCluster } = geometry;
  const l1 = image.l2.parent;
  const end = 3 + clustersFor(geometry, l1.entries * 8);
  // The front may hold the LUKS header, which stays.
  if (header.extensions.encryption !== undefined) return false;
  if (header.snapshotCount > 0 || end > refcountBlockEntries) return false;
  if ((await image.bitmaps.list()).length > 0) return false;
  await refcounts.table.loadAll();
  const room = findRoom(image, end);
  if (room === undefined) return false;
  const front: MinimalImage = { table: 1, block: 2, l1: 3 };
  await image.barrier.exclusively(async () => {
    try {
      await switchTo(image, { table: room, block: room + 1, l1: room + 2 });
      await switchTo(image, front);
      await image.file.truncate(end * clusterSize);
    } catch (error) {
      image.breakWith(error);
      throw error;
    }
    image.quarantine.take();
    refcounts.blocks.forgetAll();
    refcounts.table.adopt(hostOffset(front.table * clusterSize), wordsPerCluster);
    l1.adopt(hostOffset(front.l1 * clusterSize), l1.entries);
    image.allocator.restart(image.file.size);
  });
  return true;
}

/**
 * The first of the clusters, behind those that the minimal image takes in the end and counted by its one
 * refcount block, where it fits without touching a structure in use.
 */
function findRoom(image: Image, end: number): number | undefined {
  const { refcountBlockEntries } = image.geometry;
  const used = structureClusters(image);
  const count = end - 1;
  let first = end;
  for (let cluster = first; cluster < refcountBlockEntries; cluster++) {
    if (used.has(cluster)) first = cluster + 1;
    else if (cluster + 1 - first === count) return first;
  }
  return undefined;
}

/** The clusters that the structures of an empty image take, as far as the first refcount block counts them. */
function structureClusters(image: Image): ReadonlySet<number> {
  const { geometry, refcounts, l2 } = image;
  const { clusterSize, refcountBlockEntries } = geometry;
  const used = new Set<number>();
  const add = (at: number, bytes: number): void => {
    const first = at / clusterSize;
    const last = Math.min(first + clustersFor(geometry, bytes), refcountBlockEntries);
    for (let cluster = first; cluster < last; cluster++) used.add(cluster);
  };
  add(l2.parent.at, l2.parent.entries * 8);
  const { table, blocks } = refcounts;
  add(table.at, table.entries * 8);
  for (let index = 0; index < table.entries; index++) {
    const entry = blocks.describe(table.high(index), table.low(index), index);
    if (entry.kind === 'table') add(entry.at, clusterSize);
  }
  return used;
}

/** Writes a minimal image into free clusters, and switches the header to it. */
async function switchTo(image: Image, parts: MinimalImage): Promise<void> {
  const { file, geometry } = image;
  const { clusterSize, refcountOrder } = geometry;
  const l1Entries = image.l2.parent.entries;
  const l1Clusters = clustersFor(geometry, l1Entries * 8);

  const table = tableOf(new Uint8Array(clusterSize));
  const blockAt = hostOffset(parts.block * clusterSize);
  setEntry(table, 0, encodeHigh(blockAt, false), encodeLow(blockAt));
  const block = tableOf(new Uint8Array(clusterSize));
  const l1s = Array.from({ length: l1Clusters }, (_, i) => parts.l1 + i);
  for (const cluster of [0, parts.table, parts.block, ...l1s])
    writeRefcount(block, cluster, refcountOrder, 1);

  await file.write(new Uint8Array(table.buffer), parts.table * clusterSize);
  await file.write(new Uint8Array(block.buffer), blockAt);
  const l1At = hostOffset(parts.l1 * clusterSize);
  for (let at = 0; at < l1Clusters * clusterSize; at += CHUNK.length)
    await file.write(CHUNK.subarray(0, Math.min(CHUNK.length, l1Clusters * clusterSize - at)), l1At + at);
  await file.flush();

  // The two fields lie side by side in the header's first sector, so one write switches both.
  const l1Switch = l1Patch(l1Entries, l1At);
  const tableSwitch = refcountTablePatch(parts.table * clusterSize, 1);
  await file.write(Buffer.concat([l1Switch.bytes, tableSwitch.bytes]), l1Switch.offset);
  await file.flush();
}
