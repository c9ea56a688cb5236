/**
 * Making the disk smaller, and giving back what only its end used.
 *
 * The size in the header changes first: a power cut leaves the old disk or the new one, never one whose end is
 * half gone. What the new end cuts off is then nobody's: its entries are dropped, L2 tables that lie behind the
 * end as a whole with them, then refcount blocks that count nothing any more, and last the tail of the file. The
 * host gets back what is released, as from QEMU, also where discards of the guest do not reach it.
 * A power cut in between leaves clusters that the tables still lead to, behind the end; nothing reads them, and
 * growing drops them (resize.ts). The L1 table keeps its length, as QEMU's does.
 *
 * Spec: qcow2.txt, "Header", size; "Host cluster management".
 */
import { DiskError, type HostFile, isDiskError } from '@strata/block';
import { dropClusters } from './discard.ts';
import { entryHigh, entryLow } from './entries.ts';
import { clusterIndexOf, clustersFor, refcountTableIndexOf } from './geometry.ts';
import { sizePatch } from './header-encode.ts';
import type { Image } from './image.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';
import { lastCounted, usedClusters } from './used-clusters.ts';

/** Cuts the disk to `size` while the caller holds all of it. @throws {DiskError} corrupt, io */
export async function shrink(image: Image, size: number): Promise<void> {
  await settle(image);
  const { offset, bytes } = sizePatch(size);
  await image.file.write(bytes, offset);
  await image.file.flush();
  image.size = size;
  await image.barrier.givingBack(async () => {
    await dropBehind(image, clustersFor(image.geometry, size));
    await settle(image);
    for (let again = true; again; ) {
      const { released, own } = await dropIdleBlocks(image);
      await settle(image);
      await giveBack(image, own);
      again = released;
    }
  });
  await cutTail(image);
  if (image.geometry.externalData) await cut(image.space.file, size);
}

/** Brings all that changed to the file; what one barrier releases, the next one counts. */
async function settle(image: Image): Promise<void> {
  do await image.barrier.run();
  while (image.barrier.isNeeded);
}

/** Lets go of all guest clusters from `first` on, and of the L2 tables that lead to nothing else. */
async function dropBehind(image: Image, first: number): Promise<void> {
  const { l2, geometry } = image;
  const { l2Entries } = geometry;
  const l1 = l2.parent;
  const firstWhole = Math.ceil(first / l2Entries);
  await dropClusters(image, first, firstWhole * l2Entries, { unallocatedToo: false, intoNothing: true });
  for (let index = firstWhole; index < l1.entries; index++) {
    await l1.load(index);
    const none = l1.zeroRun(index);
    if (none > 0) index += none - 1;
    else await dropTable(image, index);
  }
}

async function dropTable(image: Image, index: number): Promise<void> {
  const { l2, links, quarantine, geometry } = image;
  const table = await l2.get(index);
  if (table === NO_TABLE) return;
  const { l2Words } = geometry;
  for (let i = 0; i < geometry.l2Entries; i++)
    links.drop(entryHigh(table.view, i * l2Words), entryLow(table.view, i * l2Words));
  l2.forget(index);
  l2.parent.set(index, 0, 0);
  quarantine.add(clusterIndexOf(geometry, table.at));
  const relief = image.barrier.relieve();
  if (relief !== undefined) await relief;
}

/** What became of refcount blocks that were taken out of the refcount table. */
interface IdleBlocks {
  /** Some were counted by others, which may count nothing now. */
  readonly released: boolean;
  /** The clusters of those that counted themselves. */
  readonly own: readonly number[];
}

/** Takes refcount blocks that count nothing, or nothing but themselves, out of the refcount table. */
async function dropIdleBlocks(image: Image): Promise<IdleBlocks> {
  const { refcounts, quarantine, geometry } = image;
  const { table, blocks } = refcounts;
  const itself: number[] = [];
  let released = false;
  for (let index = 1; index < table.entries; index++) {
    await table.load(index);
    const none = table.zeroRun(index);
    if (none > 0) {
      index += none - 1;
      continue;
    }
    const block = await blocks.get(index);
    if (blocks.isShared(block)) throw sharedBlock(block);
    const own = clusterIndexOf(geometry, block.at);
    const countsItself = refcountTableIndexOf(geometry, own) === index;
    const last = lastCounted(image, block);
    if (last >= 0 && !(countsItself && isOnly(image, block, own, last))) continue;
    blocks.forget(index);
    table.set(index, 0, 0);
    if (countsItself) {
      itself.push(own);
      continue;
    }
    quarantine.add(own);
    released = true;
  }
  return { released, own: itself };
}

/** Punches clusters out of the file that nothing refers to, in memory or in the file. It is advice. */
async function giveBack({ file, geometry }: Image, clusters: readonly number[]): Promise<void> {
  const { clusterSize } = geometry;
  for (const cluster of clusters)
    await file.discard(cluster * clusterSize, clusterSize).catch(() => undefined);
}

function sharedBlock({ at }: ClusterTable): DiskError {
  const message = `two entries of the refcount table lead to 0x${at.toString(16)}`;
  return new DiskError('corrupt', message, { offset: at, spec: 'qcow2.txt, "Host cluster management"' });
}

/** True if a block counts the cluster `own` and no other; `last` is the last entry that is not 0. */
function isOnly({ refcounts, geometry }: Image, block: ClusterTable, own: number, last: number): boolean {
  if (own % geometry.refcountBlockEntries !== last || refcounts.read(block, last) !== 1) return false;
  for (let index = 0; index < last; index++) if (refcounts.read(block, index) !== 0) return false;
  return true;
}

/** Cuts the file after the last cluster in use. A device, which keeps its size, only keeps the space. */
async function cutTail(image: Image): Promise<void> {
  const { file, geometry } = image;
  const end = (await usedClusters(image)) * geometry.clusterSize;
  if (end >= file.size) return;
  await cut(file, end);
  image.allocator.restart(file.size);
}

async function cut(file: HostFile, size: number): Promise<void> {
  try {
    await file.truncate(size);
  } catch (error) {
    if (!isDiskError(error, 'not-supported')) throw error;
  }
}
