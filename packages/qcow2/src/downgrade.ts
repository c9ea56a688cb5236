/**
 * Taking out of an image what version 2 does not know, before its header says that it is version 2.
 *
 * Zero clusters are what needs work: in every L2 table, of snapshots too, they become unallocated where nothing is
 * below, and clusters full of zeros elsewhere. A table that several L1 entries lead to is changed in place, since all
 * of them see zeros before and after. The zeros and their refcounts are durable before the table that leads to them,
 * and what an entry let go of is released after it; until the header is switched the image is a sound one of version 3.
 *
 * QEMU: a zero cluster with a place of its own keeps it, and gets zeros, as with QEMU.
 *
 * Spec: qcow2.txt, "Cluster mapping", Standard Cluster Descriptor, bit 0.
 */
import { DiskError } from '@strata/block';
import {
  ClusterKind,
  clusterKind,
  encodeHigh,
  encodeLow,
  entryHigh,
  entryLow,
  entryOffset,
  setEntry,
  tableOf,
} from './entries.ts';
import { Encryption } from './format.ts';
import { clusterIndexOf, type HostOffset, refcountBlockIndexOf, refcountTableIndexOf } from './geometry.ts';
import type { Image } from './image.ts';
import { readTree } from './l1-tree.ts';
import type { AmendProgress } from './refcount-width.ts';
import { judgeL1, readSnapshotTable } from './snapshots.ts';
import { readAt } from './table-reader.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';

/** True if an L2 table, of a snapshot too, has an entry of this kind. @throws {DiskError} corrupt, limit */
export async function hasClusters(image: Image, kind: ClusterKind): Promise<boolean> {
  for (const at of await allL2Tables(image)) {
    const table = await readL2(image, at);
    for (let index = 0; index < image.geometry.l2Entries; index++)
      if (clusterKind(image.geometry, entryHigh(table, index), entryLow(table, index)) === kind) return true;
  }
  return false;
}

/**
 * Makes all zero clusters of an image with standard L2 entries something that version 2 knows.
 *
 * @throws {DiskError} not-supported for an encrypted overlay, corrupt, limit, no-space, io
 */
export async function expandZeroClusters(image: Image, progress: AmendProgress): Promise<void> {
  await image.holdAll(async () => {
    const tables = await allL2Tables(image);
    if (tables.length === 0) progress(1, 1);
    let done = 0;
    for (const at of tables) {
      await expandIn(image, at);
      progress(++done, tables.length);
    }
  });
}

/** The places of all L2 tables, each once. */
async function allL2Tables(image: Image): Promise<readonly number[]> {
  const { header, file, l2 } = image;
  const places = new Set<number>();
  const add = async (at: number, entries: number): Promise<void> => {
    for (const place of (await readTree(image, at, entries)).tables.keys()) places.add(place);
  };
  await add(l2.parent.at, l2.parent.entries);
  const { entries, problem } = await readSnapshotTable(file, header.snapshotsAt, header.snapshotCount);
  if (problem !== undefined) throw new DiskError('limit', problem.message);
  for (const snapshot of entries) await add(judgeL1(header, snapshot), snapshot.l1Entries);
  return [...places];
}

async function readL2({ file, geometry }: Image, at: number): Promise<DataView> {
  const bytes = Buffer.alloc(geometry.clusterSize);
  await readAt(file, bytes, at);
  return tableOf(bytes);
}

async function expandIn(image: Image, at: number): Promise<void> {
  const { geometry, refcounts, quarantine, barrier, file, structures } = image;
  const table = await readL2(image, at);
  const uses = await refcounts.get(clusterIndexOf(geometry, at));
  const dropped: number[] = [];
  let changed = false;
  for (let index = 0; index < geometry.l2Entries; index++) {
    const [high, low] = [entryHigh(table, index), entryLow(table, index)];
    const kind = clusterKind(geometry, high, low);
    if (kind !== ClusterKind.zero && kind !== ClusterKind.zeroAllocated) continue;
    if (!changed) structures.check(at, geometry.clusterSize, 'active L2 table');
    changed = true;
    const old = kind === ClusterKind.zeroAllocated ? entryOffset(high, low) : undefined;
    const place = await placeOfZeros(image, old, uses);
    if (old !== undefined && place !== old) dropped.push(clusterIndexOf(geometry, old));
    if (place === undefined) setEntry(table, index, 0, 0);
    else setEntry(table, index, encodeHigh(place, uses === 1), encodeLow(place));
  }
  if (!changed) return;
  await barrier.run();
  await file.write(new Uint8Array(table.buffer, table.byteOffset, table.byteLength), at);
  await file.flush();
  for (const cluster of dropped) for (let i = 0; i < uses; i++) quarantine.add(cluster);
}

/** A cluster full of zeros with as many uses as the table that will lead to it; undefined: none is needed. */
async function placeOfZeros(
  image: Image,
  old: HostOffset | undefined,
  uses: number,
): Promise<HostOffset | undefined> {
  const { file, refcounts, allocator, geometry, structures } = image;
  const { clusterSize } = geometry;
  const isEncrypted = image.header.cryptMethod !== Encryption.none;
  const isOurs = old !== undefined && (await refcounts.get(clusterIndexOf(geometry, old))) === uses;
  if (isOurs && !isEncrypted) {
    structures.check(old, clusterSize);
    await file.zero(old, clusterSize, { allocate: true });
    return old;
  }
  if (!image.hasBacking) return undefined;
  if (isEncrypted)
    throw new DiskError('not-supported', 'an encrypted overlay with zero clusters cannot be downgraded');
  const { at } = await allocator.allocate(1);
  if (uses > 1) await setUses(image, clusterIndexOf(geometry, at), uses);
  await file.zero(at, clusterSize, { allocate: true });
  return at;
}

async function setUses({ refcounts, geometry }: Image, cluster: number, uses: number): Promise<void> {
  const region = refcountTableIndexOf(geometry, cluster);
  let block: ClusterTable | undefined = refcounts.blocks.peek(region);
  while (block === undefined || block === NO_TABLE) {
    await refcounts.blocks.load(region);
    block = refcounts.blocks.peek(region);
  }
  refcounts.fill(block, refcountBlockIndexOf(geometry, cluster), 1, uses);
}
