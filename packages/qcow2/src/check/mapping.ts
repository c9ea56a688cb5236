/**
 * The L1 and L2 tables, as a check sees them: what they reference, and whether their "exclusive" flags agree
 * with the refcounts.
 *
 * Snapshots share L2 tables, and hostile images share one between millions of L1 entries. Each table is
 * walked when it is first reached; whatever reaches it again is only counted, and in the end it is walked
 * once more with that number.
 *
 * Spec: qcow2.txt, "Cluster mapping" and "Extended L2 Entries".
 */

import {
  compressedAt,
  compressedHigh,
  compressedMaxLength,
  entryHigh,
  entryLow,
  entryOffset,
  isCompressed,
  isExclusive,
  isUnaligned,
  isZero,
  offsetHigh,
  offsetLow,
  reservedBitsInL1,
  reservedBitsInL2,
  tableOf,
} from '../entries.ts';
import { hasFeature } from '../features.ts';
import { piecesOf, readAt } from '../table-reader.ts';
import { L2Walks } from './l2-walks.ts';
import { say } from './sentences.ts';
import { CheckFailed, type CheckState } from './state.ts';

/** An L1 table to follow. */
export interface L1Table {
  readonly at: number;
  readonly entries: number;
}

/** How the guest's clusters lie in the file. */
export interface ClusterCounts {
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
}

/** Counts what all L1 tables reference; the first of `l1s` is the active one. */
export async function countMapping(
  state: CheckState,
  l1s: readonly L1Table[],
): Promise<{ readonly walks: L2Walks; readonly clusters: ClusterCounts }> {
  const { file, geometry, references, findings, budget } = state;
  const { clusterSize } = geometry;
  const walks = new L2Walks(clusterSize);
  const counts = { allocatedClusters: 0, fragmentedClusters: 0, compressedClusters: 0 };
  const l2 = Buffer.alloc(clusterSize);

  const countTable = async (at: number, times: number, activeTimes: number): Promise<void> => {
    budget.spend(clusterSize);
    await readAt(file, l2, at);
    countL2(state, tableOf(l2), at, times, activeTimes, counts);
  };
  for (const [order, { at, entries }] of l1s.entries()) {
    const active = order === 0;
    references.count(at, entries * 8);
    if (at >= 2 ** 63 && entries > 0) {
      findings.error(say.unreadableL1);
      throw new CheckFailed('Input/output error');
    }
    for await (const { bytes } of piecesOf(file, at, entries * 8)) {
      budget.spend(bytes.length);
      const table = tableOf(bytes);
      const words = Math.min(bytes.length / 8, entries);
      for (let i = 0; i < words; i++) {
        const high = entryHigh(table, i);
        const low = entryLow(table, i);
        if (high === 0 && low === 0) continue;
        const l2At = entryOffset(high, low);
        if (reservedBitsInL1(high, low)) findings.corruption(1, say.reservedInL1, high, low);
        references.count(l2At, clusterSize, 1, offsetHigh(high), offsetLow(low));
        if (isUnaligned(geometry, low)) findings.corruption(1, say.unalignedL2, high, low);
        if (l2At < file.size && walks.reach(l2At, active)) await countTable(l2At, 1, active ? 1 : 0);
      }
    }
  }
  for (const { at, times, activeTimes } of walks.again()) await countTable(at, times, activeTimes);
  return { walks, clusters: counts };
}

type MutableCounts = { -readonly [K in keyof ClusterCounts]: ClusterCounts[K] };

/** Counts what an L2 table references, `times` over; `activeTimes` of them count for the guest. */
function countL2(
  state: CheckState,
  table: DataView,
  tableAt: number,
  times: number,
  activeTimes: number,
  counts: MutableCounts,
): void {
  const { header, geometry, references, findings, mending } = state;
  const { clusterSize, l2Entries } = geometry;
  const stride = geometry.l2EntrySize / 8;
  const inDataFile = hasFeature(header, 'dataFile');
  let expected = 0;
  for (let i = 0; i < l2Entries; i++) {
    const high = entryHigh(table, i * stride);
    const low = entryLow(table, i * stride);
    const zeroBits = stride === 2 ? entryHigh(table, i * 2 + 1) : 0;
    const allocatedBits = stride === 2 ? entryLow(table, i * 2 + 1) : 0;
    if (high === 0 && low === 0 && allocatedBits === 0) continue;
    if (mending?.has(tableAt, i)) continue;

    if (isCompressed(high)) {
      const used = countCompressed(state, high, low, i, times, (zeroBits | allocatedBits) !== 0);
      if (!used) continue;
      counts.allocatedClusters += activeTimes;
      counts.compressedClusters += activeTimes;
      counts.fragmentedClusters += activeTimes;
      continue;
    }
    if (reservedBitsInL2(high, low)) findings.corruption(times, say.reservedInL2, high, low);
    const at = entryOffset(high, low);
    const zero = stride === 1 && isZero(low);
    if (at === 0 && (zero || !(inDataFile && isExclusive(high)))) {
      if (allocatedBits !== 0) findings.corruption(times, say.subclustersOfNothing);
      continue;
    }
    if ((zeroBits & allocatedBits) !== 0) findings.corruption(times, say.brokenSubclusters, high, low);
    if (isUnaligned(geometry, low)) {
      const holdsData = stride === 2 ? allocatedBits !== 0 : !zero;
      if (!holdsData && mending?.add(tableAt, i)) {
        findings.repaired('corruption', say.unalignedCluster, high, low, 'Preallocated');
        continue;
      }
      findings.corruption(times, say.unalignedCluster, high, low, holdsData ? 'Data' : 'Preallocated');
    }
    counts.allocatedClusters += activeTimes;
    if (expected !== 0 && at !== expected) counts.fragmentedClusters += activeTimes;
    expected = at + clusterSize;
    if (!inDataFile && !references.countCluster(at, times))
      references.count(at, clusterSize, times, offsetHigh(high), offsetLow(low));
  }
}

function countCompressed(
  state: CheckState,
  high: number,
  low: number,
  index: number,
  times: number,
  hasBitmap: boolean,
): boolean {
  const { header, geometry, references, findings } = state;
  const atHigh = compressedHigh(geometry, high);
  if (isExclusive(high)) findings.corruption(times, say.flagOfCompressed, atHigh, low);
  if (hasFeature(header, 'dataFile')) {
    findings.corruption(times, say.compressedIn, index, 'data file', high, low);
    return false;
  }
  if (hasBitmap) {
    const what = 'non-zero subcluster allocation bitmap';
    findings.corruption(times, say.compressedIn, index, what, high, low);
    return false;
  }
  const length = compressedMaxLength(geometry, high, low);
  references.count(compressedAt(geometry, high, low), length, times, atHigh, low);
  return true;
}

/** Changes flags in the file, where nothing but the table itself is. */
export interface FlagRepair {
  readonly mayChangeL1: boolean;
  /** For the entry at `at`. */
  mayChangeL2(at: number): boolean;
  /** Sets or clears the flag of the entry at `at`, whose high half is `high`. */
  setFlag(at: number, high: number, exclusive: boolean): Promise<void>;
}

/** Compares the flags of the active tables with the refcounts: exclusive exactly where the refcount is 1. */
export async function checkExclusiveFlags(
  state: CheckState,
  walks: L2Walks,
  repair?: FlagRepair,
): Promise<void> {
  const { file, header, geometry, refcounts, findings, budget } = state;
  const l2 = Buffer.alloc(geometry.clusterSize);
  const done = new L2Walks(geometry.clusterSize);
  for await (const { start, bytes } of piecesOf(file, header.l1At, header.l1Entries * 8)) {
    budget.spend(bytes.length);
    const table = tableOf(bytes);
    const words = Math.min(bytes.length / 8, header.l1Entries);
    for (let i = 0; i < words; i++) {
      const high = entryHigh(table, i);
      const low = entryLow(table, i);
      const l2At = entryOffset(high, low);
      if (l2At === 0) continue;
      const cluster = Math.floor(l2At / geometry.clusterSize);
      const refcount = refcounts.tryRefcount(cluster) ?? (await refcounts.refcount(cluster));
      if (Number.isNaN(refcount)) continue;
      if ((refcount === 1) !== isExclusive(high)) {
        const shown = refcounts.shown(cluster);
        const index = start / 8 + i;
        if (repair?.mayChangeL1) {
          await repair.setFlag(header.l1At + index * 8, high, refcount === 1);
          findings.repaired('corruption', say.flagOfL2, index, high, low, shown);
        } else {
          findings.corruption(1, say.flagOfL2, index, high, low, shown);
        }
      }
      if (l2At >= file.size || !done.reach(l2At, true)) continue;
      budget.spend(l2.length);
      await readAt(file, l2, l2At);
      await checkFlagsInL2(state, tableOf(l2), l2At, walks.active(l2At), repair);
    }
  }
}

async function checkFlagsInL2(
  state: CheckState,
  table: DataView,
  tableAt: number,
  times: number,
  repair: FlagRepair | undefined,
): Promise<void> {
  const { header, geometry, refcounts, findings } = state;
  const stride = geometry.l2EntrySize / 8;
  const inDataFile = hasFeature(header, 'dataFile');
  for (let i = 0; i < geometry.l2Entries; i++) {
    const high = entryHigh(table, i * stride);
    const low = entryLow(table, i * stride);
    if ((high === 0 && low === 0) || isCompressed(high)) continue;
    const at = entryOffset(high, low);
    const zero = stride === 1 && isZero(low);
    if (at === 0 && (zero || !(inDataFile && isExclusive(high)))) continue;
    const cluster = Math.floor(at / geometry.clusterSize);
    const refcount = inDataFile ? 1 : (refcounts.tryRefcount(cluster) ?? (await refcounts.refcount(cluster)));
    if (Number.isNaN(refcount) || (refcount === 1) === isExclusive(high)) continue;
    const shown = inDataFile ? '1' : refcounts.shown(cluster);
    const entryAt = tableAt + i * geometry.l2EntrySize;
    if (repair?.mayChangeL2(entryAt) === true) {
      await repair.setFlag(entryAt, high, refcount === 1);
      findings.repaired('corruption', say.flagOfCluster, high, low, shown);
    } else {
      findings.corruption(times, say.flagOfCluster, high, low, shown);
    }
  }
}
