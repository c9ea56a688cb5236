/**
 * Having the space of a disk before anything is written to it.
 *
 * `metadata` gives every cluster a place, in the order of the disk, behind the L2 table that leads to it. In an
 * external data file each has its place already, and the entries say so; its space is resize.ts's business.
 * `falloc` and `full` take one run of clusters for all data, behind the refcount structures that count it, have the
 * host spend space on it, and let the tables lead there. Either way the places read as zeros before an entry leads
 * to them, and the file is long enough for them. Of an encrypted image zeros in the file would not be zeros of the
 * disk, so its entries say that they are zeros.
 *
 * QEMU: the layout is QEMU's, cluster by cluster, so that both tools map such an image alike. Its moving the
 * refcount table to the front of the run, always, is part of that.
 *
 * Spec: qcow2.txt, "Host cluster management" and "Cluster mapping".
 */
import { DiskError, type Preallocation, spendSpace } from '@strata/block';
import { encodeHigh, encodeLow } from './entries.ts';
import { Encryption, MAX_REFCOUNT_TABLE_BYTES } from './format.ts';
import { hostOffset, refcountTableIndexOf } from './geometry.ts';
import type { Image } from './image.ts';
import { allSubclusters, storeL2Entry } from './l2-entry.ts';
import { refcountStructuresFor } from './metadata-size.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';
import { usedClusters } from './used-clusters.ts';

/** What the clusters are to be. */
export interface PreallocationPlan {
  readonly how: Exclude<Preallocation, 'off'>;
  /** Something below would show: the clusters say that they are zeros, or written. */
  readonly hides: boolean;
}

/** Entries of one L2 table, `to` exclusive, and the guest cluster of the first. */
interface Entries {
  readonly from: number;
  readonly to: number;
  readonly cluster: number;
}

/**
 * Gives the guest clusters from `first` up to the end of a disk of `size` bytes a place; the caller holds them,
 * and none of them has one.
 *
 * @throws {DiskError} no-space, corrupt, io; what was allocated has been given back or leaks
 */
export async function preallocate(
  image: Image,
  first: number,
  size: number,
  plan: PreallocationPlan,
): Promise<void> {
  const { clusterSize, externalData, version } = image.geometry;
  const end = Math.ceil(size / clusterSize);
  if (first >= end) return;
  if (version < 3 && image.header.cryptMethod !== Encryption.none)
    throw new DiskError('not-supported', 'encrypted images of version 2 cannot be preallocated');
  // What is waiting to be released is free for the tables to come.
  await settle(image);
  if (plan.how === 'metadata' || externalData) {
    await eachTable(image, first, end, (table, entries) => placeClusters(image, table, entries, plan));
    return;
  }
  const start = await makeRoom(image, end - first);
  await settle(image);
  try {
    await spendSpace(image.file, start * clusterSize, (end - first) * clusterSize, plan.how);
  } catch (error) {
    await image.allocator.drop(start, end - first).catch(() => undefined);
    throw error;
  }
  await eachTable(image, first, end, async (table, entries) => {
    link(image, table, entries, (start + entries.cluster - first) * clusterSize, plan);
  });
}

async function settle(image: Image): Promise<void> {
  do await image.barrier.run();
  while (image.barrier.isNeeded);
}

/** Calls `place` with each L2 table, made if there is none. */
async function eachTable(
  image: Image,
  first: number,
  end: number,
  place: (table: ClusterTable, entries: Entries) => Promise<void>,
): Promise<void> {
  const { l2Entries } = image.geometry;
  for (let cluster = first; cluster < end; ) {
    const l1Index = Math.floor(cluster / l2Entries);
    const table = image.links.peek(l1Index);
    if (table === undefined) {
      await image.links.make(l1Index);
      continue;
    }
    const start = l1Index * l2Entries;
    const to = Math.min(end - start, l2Entries);
    await place(table, { from: cluster - start, to, cluster });
    cluster = start + to;
    const relief = image.barrier.relieve();
    if (relief !== undefined) await relief;
  }
}

/** Allocates places in a row for entries, and makes the file long enough for them. */
async function placeClusters(
  image: Image,
  table: ClusterTable,
  { from, to, cluster }: Entries,
  plan: PreallocationPlan,
): Promise<void> {
  const { allocator, file, geometry } = image;
  const { clusterSize, externalData } = geometry;
  if (externalData) return link(image, table, { from, to, cluster }, cluster * clusterSize, plan);
  const run = await allocator.allocateInOneRun(to - from);
  const length = run.count * clusterSize;
  try {
    if (!run.virgin) await file.zero(run.at, length);
    if (file.size < run.at + length) await file.truncate(run.at + length);
  } catch (error) {
    await allocator.release(run).catch(() => undefined);
    throw error;
  }
  link(image, table, { from, to, cluster }, run.at, plan);
}

/** Lets entries without a place lead to clusters in a row. */
function link(
  { geometry, l2, header }: Image,
  table: ClusterTable,
  { from, to }: Entries,
  startAt: number,
  { how, hides }: PreallocationPlan,
): void {
  const isEncrypted = header.cryptMethod !== Encryption.none;
  const all = allSubclusters(geometry);
  // Subclusters need not say that they are written: with a place and no state they are what is below.
  const written = geometry.subclusters === 1 || hides;
  const asZeros = isEncrypted || (hides && how === 'metadata' && geometry.version >= 3);
  for (let index = from; index < to; index++) {
    const at = hostOffset(startAt + (index - from) * geometry.clusterSize);
    storeL2Entry(geometry, table.view, index, {
      high: encodeHigh(at, true),
      low: encodeLow(at),
      zeros: asZeros ? all : 0,
      allocated: written && !asZeros ? all : 0,
    });
  }
  l2.changed(table, from * geometry.l2EntrySize, to * geometry.l2EntrySize);
}

/**
 * Takes a run of `clusters` clusters behind all that is in use, behind new refcount structures for it and for the
 * L2 tables to come, and returns its first cluster.
 */
async function makeRoom(image: Image, clusters: number): Promise<number> {
  const { geometry, refcounts, allocator, quarantine } = image;
  const { clusterSize, wordsPerCluster, l2Entries } = geometry;
  const { table, blocks } = refcounts;
  const start = await usedClusters(image);
  const l2Tables = Math.ceil(clusters / l2Entries) + 1;
  const wanted = refcountStructuresFor(geometry, start + clusters + l2Tables).blocks;
  const tableClusters = Math.ceil(Math.max(wanted, table.entries) / wordsPerCluster);
  if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES)
    throw new DiskError('no-space', 'the image is full: its refcount table cannot grow past 8 MiB');
  await table.loadAll();
  const absent: number[] = [];
  for (let region = refcountTableIndexOf(geometry, start); region < wanted; region++)
    if (region >= table.entries || (await blocks.get(region)) === NO_TABLE) absent.push(region);
  allocator.checkFree(start, absent.length + tableClusters + clusters);

  quarantine.add(table.at / clusterSize, table.entries / wordsPerCluster);
  table.move(hostOffset((start + absent.length) * clusterSize), tableClusters * wordsPerCluster);
  for (const [i, region] of absent.entries()) blocks.create(region, hostOffset((start + i) * clusterSize));
  const first = start + absent.length + tableClusters;
  await allocator.claim(start, first - start + clusters);
  return first;
}
