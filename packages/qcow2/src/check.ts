/**
 * Checks that everything in an image is referenced exactly as often as the image says.
 *
 * A walk over all metadata counts the references to each host cluster, and the counts are compared with the
 * refcounts on disk; then the "exclusive" flags of the active tables are compared with those refcounts.
 * Findings, counts and their order are qemu-img's. Nothing is written and nothing is trusted: the work is
 * linear in the size of the file, because a table that is reached again is not walked again but counted as
 * often as it is reached, and because tables that overlap so much that this does not help end the check
 * with `limit`.
 *
 * It works on every image whose header can be read, also on those that this version will not open.
 *
 * Spec: qcow2.txt, "Host cluster management".
 */
import type { HostSource } from '@strata/block';
import { type BitmapEntry, listBitmaps } from './bitmaps.ts';
import { checkBitmapTables, countBitmaps } from './check/bitmaps.ts';
import { type Finding, Findings } from './check/findings.ts';
import { checkExclusiveFlags, countMapping } from './check/mapping.ts';
import { compareRefcounts, countRefcountBlocks, RefcountsOnDisk } from './check/refcounts.ts';
import { References } from './check/references.ts';
import { say } from './check/sentences.ts';
import { CheckFailed, type CheckState, MetadataBudget } from './check/state.ts';
import { contradictionIn, hasFeature } from './features.ts';
import { MAX_L1_BYTES, MAX_SNAPSHOTS } from './format.ts';
import { clustersFor, geometryOf } from './geometry.ts';
import { type Header, readHeader } from './header.ts';
import { readSnapshotTable, type SnapshotEntry } from './snapshots.ts';
import { readAt } from './table-reader.ts';

/** What a check found. All counts are exact, whatever is left out of `findings`. */
export interface CheckReport {
  /** What can lose data: references that no refcount covers, entries that the specification forbids. */
  readonly corruptions: number;
  /** Clusters that are counted but not used. */
  readonly leaks: number;
  /** What could not be checked. */
  readonly checkErrors: number;
  /** In the order in which they were found. */
  readonly findings: readonly Finding[];
  /** Findings beyond those listed. */
  readonly findingsOmitted: number;
  /** Why the check ended before its end, in the words of the C library; the clusters below are then 0. */
  readonly failed: string | undefined;
  /** Where the last used cluster ends. */
  readonly imageEndOffset: number;
  /** Guest clusters: all, those with a host cluster, those of them out of order, and those compressed. */
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
}

/** How to check. */
export interface CheckOptions {
  /** Ends the check with `aborted`. */
  readonly signal?: AbortSignal;
}

/**
 * Checks the image in `file`.
 *
 * @throws {DiskError} corrupt, limit, not-supported if it cannot be opened for checking; limit also if its
 * tables overlap beyond measure; aborted
 */
export async function checkImage(file: HostSource, options: CheckOptions = {}): Promise<CheckReport> {
  const header = await readHeader(file, { forCheck: true });
  const contradiction = contradictionIn(header);
  if (contradiction !== undefined) throw contradiction;
  const bitmaps = await listBitmaps(file, header);
  const budget = new MetadataBudget(file.size, options.signal);
  await checkBitmapTables(file, header, bitmaps, budget);
  const findings = new Findings();
  try {
    return await walk(file, header, bitmaps, findings, budget);
  } catch (error) {
    if (!(error instanceof CheckFailed)) throw error;
    return { ...findings.counts(), ...noClusters, failed: error.message };
  }
}

const noClusters = {
  imageEndOffset: 0,
  totalClusters: 0,
  allocatedClusters: 0,
  fragmentedClusters: 0,
  compressedClusters: 0,
};

async function walk(
  file: HostSource,
  header: Header,
  bitmaps: readonly BitmapEntry[],
  findings: Findings,
  budget: MetadataBudget,
): Promise<CheckReport> {
  const geometry = geometryOf(header);
  const snapshots = await snapshotsToCheck(file, header, findings);
  // QEMU takes every file for whole sectors of 512 bytes.
  const fileSize = Math.ceil(file.size / 512) * 512;
  if (clustersFor(geometry, fileSize) > 0x7fff_ffff) {
    findings.silentError();
    throw new CheckFailed('File too large');
  }
  const references = new References(geometry, fileSize, findings);
  const refcounts = new RefcountsOnDisk(file, header, geometry, findings, budget);
  const state: CheckState = { file, header, geometry, references, refcounts, findings, budget };

  references.count(0, geometry.clusterSize);
  const l1s = [
    { at: header.l1At as number, entries: header.l1Entries },
    ...judgeL1s(state, snapshots.entries),
  ];
  const mapping = await countMapping(state, l1s);
  references.count(snapshots.at, snapshots.length);
  references.count(header.refcountTableAt, header.refcountTableClusters * geometry.clusterSize);
  const { encryption } = header.extensions;
  if (encryption !== undefined) references.count(encryption.at, encryption.length);
  if (!(await countBitmaps(state, bitmaps))) throw new CheckFailed('Invalid argument');
  await countRefcountBlocks(state);

  const lastCluster = await compareRefcounts(state);
  await checkExclusiveFlags(state, mapping.walks);
  return {
    ...findings.counts(),
    failed: undefined,
    imageEndOffset: (lastCluster + 1) * geometry.clusterSize,
    totalClusters: clustersFor(geometry, header.size),
    ...mapping.clusters,
  };
}

interface SnapshotsToCheck {
  readonly entries: readonly SnapshotEntry[];
  readonly at: number;
  readonly length: number;
}

/** The snapshot table is judged here and not when the header is parsed: a broken one is a finding. */
async function snapshotsToCheck(
  file: HostSource,
  header: Header,
  findings: Findings,
): Promise<SnapshotsToCheck> {
  const fields = Buffer.alloc(12);
  await readAt(file, fields, 60);
  const count = fields.readUInt32BE(0);
  const at = fields.readBigUInt64BE(4);
  const clusterSize = 2n ** BigInt(header.clusterBits);
  if (count > MAX_SNAPSHOTS) {
    findings.error(say.plain, 'ERROR snapshot table too large');
    findings.note(say.tooManySnapshots, count - MAX_SNAPSHOTS);
    throw new CheckFailed('File too large');
  }
  if (at % clusterSize !== 0n || at + BigInt(count * 40) >= 2n ** 63n) {
    findings.error(say.plain, 'ERROR snapshot table offset invalid');
    throw new CheckFailed('Invalid argument');
  }
  const table = await readSnapshotTable(file, Number(at), count);
  if (table.problem !== undefined) {
    findings.error(say.unreadableSnapshots, table.problem.message);
    findings.note(say.plain, table.problem.advice);
    throw new CheckFailed('File too large');
  }
  table.entries.forEach((entry, index) => {
    if (header.version >= 3 && entry.extraSize < 16) findings.corruption(1, say.shortSnapshotEntry, index);
  });
  return { entries: table.entries, at: Number(at), length: table.length };
}

/** The L1 tables of snapshots that can be followed; the others are findings. */
function judgeL1s(
  { header, geometry, findings }: CheckState,
  snapshots: readonly SnapshotEntry[],
): { at: number; entries: number }[] {
  if (hasFeature(header, 'dataFile') && snapshots.length > 0)
    findings.corruption(1, say.snapshotsWithDataFile, snapshots.length);
  return snapshots.flatMap(({ id, name, l1At, l1Entries }) => {
    const broken = (what: string): [] => {
      findings.corruption(1, say.brokenSnapshot, id, name, what);
      return [];
    };
    if (l1At % BigInt(geometry.clusterSize) !== 0n)
      return broken(`l1_offset=0x${l1At.toString(16)}: L1 table is not cluster aligned`);
    if (l1Entries > MAX_L1_BYTES / 8)
      return broken(`l1_size=0x${l1Entries.toString(16)}: L1 table is too large`);
    return [{ at: Number(l1At), entries: l1Entries }];
  });
}
