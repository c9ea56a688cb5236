/**
 * The walk over all metadata of an image that counts the references to each host cluster: what `check` and
 * `repair` have in common.
 *
 * Spec: qcow2.txt, "Host cluster management".
 */
import type { HostSource } from '@strata/block';
import { type BitmapEntry, listBitmaps } from '../bitmaps.ts';
import { contradictionIn } from '../features.ts';
import { clustersFor, geometryOf } from '../geometry.ts';
import { type Header, readHeader } from '../header.ts';
import { checkBitmapTables, countBitmaps } from './bitmaps.ts';
import type { Findings } from './findings.ts';
import type { L2Walks } from './l2-walks.ts';
import { type ClusterCounts, countMapping } from './mapping.ts';
import type { Mending } from './mending.ts';
import { countRefcountBlocks, RefcountsOnDisk } from './refcounts.ts';
import { References } from './references.ts';
import { countSnapshotTable, judgeL1s, type SnapshotsToCheck } from './snapshots.ts';
import { CheckFailed, type CheckState, MetadataBudget } from './state.ts';

/** An image that can be checked. */
export interface CheckSubject {
  readonly file: HostSource;
  readonly header: Header;
  readonly bitmaps: readonly BitmapEntry[];
  readonly budget: MetadataBudget;
}

/** Reads what an image must have to be checked at all. @throws {DiskError} corrupt, limit, not-supported, aborted */
export async function beginCheck(file: HostSource, signal: AbortSignal | undefined): Promise<CheckSubject> {
  const header = await readHeader(file, { forCheck: true });
  const contradiction = contradictionIn(header);
  if (contradiction !== undefined) throw contradiction;
  const bitmaps = await listBitmaps(file, header);
  const budget = new MetadataBudget(file.size, signal);
  await checkBitmapTables(file, header, bitmaps, budget);
  return { file, header, bitmaps, budget };
}

/** All references, counted. */
export interface Walk {
  readonly state: CheckState;
  readonly walks: L2Walks;
  readonly clusters: ClusterCounts;
  /** Tables lie where the header is, and change with it: the refcount structures cannot be moved. */
  readonly isHeaderTable: boolean;
}

/**
 * Counts all references; `refcountStructures`: those to the refcount table and its blocks too.
 *
 * @throws {CheckFailed} @throws {DiskError} limit, aborted
 */
export async function countReferences(
  { file, header, bitmaps, budget }: CheckSubject,
  snapshots: SnapshotsToCheck,
  findings: Findings,
  how: { readonly mending?: Mending; readonly refcountStructures: boolean },
): Promise<Walk> {
  const geometry = geometryOf(header);
  // QEMU takes every file for whole sectors of 512 bytes.
  const fileSize = Math.ceil(file.size / 512) * 512;
  if (clustersFor(geometry, fileSize) > 0x7fff_ffff) {
    findings.silentError();
    throw new CheckFailed('File too large');
  }
  const references = new References(geometry, fileSize, findings);
  const refcounts = new RefcountsOnDisk(file, header, geometry, findings, budget);
  const { mending } = how;
  const counting = { file, header, geometry, references, refcounts, findings, budget };
  const state: CheckState = { ...counting, mending, needsRebuild: false };

  references.count(0, geometry.clusterSize);
  const l1s = [
    { at: header.l1At as number, entries: header.l1Entries },
    ...judgeL1s(state, snapshots.entries),
  ];
  const { walks, clusters } = await countMapping(state, l1s);
  countSnapshotTable(state, snapshots);
  if (how.refcountStructures)
    references.count(header.refcountTableAt, header.refcountTableClusters * geometry.clusterSize);
  const { encryption } = header.extensions;
  if (encryption !== undefined) references.count(encryption.at, encryption.length);
  if (!(await countBitmaps(state, bitmaps))) throw new CheckFailed('Invalid argument');
  if (how.refcountStructures) await countRefcountBlocks(state);
  const tables = [
    ...l1s.map(({ at, entries: length }) => ({ at, length })),
    ...bitmaps.map(({ tableAt: at, tableEntries: length }) => ({ at, length })),
    { at: snapshots.at, length: snapshots.length },
  ];
  const isHeaderTable = walks.has(0) || tables.some(({ at, length }) => at === 0 && length > 0);
  return { state, walks, clusters, isHeaderTable };
}
