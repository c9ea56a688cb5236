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
import { type Finding, Findings } from './check/findings.ts';
import { checkExclusiveFlags } from './check/mapping.ts';
import { compareRefcounts } from './check/refcounts.ts';
import { snapshotsToCheck } from './check/snapshots.ts';
import { CheckFailed } from './check/state.ts';
import { beginCheck, type CheckSubject, countReferences, type Walk } from './check/walk.ts';
import { clustersFor } from './geometry.ts';

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
  const subject = await beginCheck(file, options.signal);
  const findings = new Findings();
  return reportOf(findings, () => examine(subject, findings));
}

/** Runs a check; the report if it ends before its end has the findings so far. */
export async function reportOf(findings: Findings, run: () => Promise<ClusterFacts>): Promise<CheckReport> {
  try {
    const facts = await run();
    return { ...findings.counts(), failed: undefined, ...facts };
  } catch (error) {
    if (!(error instanceof CheckFailed)) throw error;
    return { ...findings.counts(), failed: error.message, ...noClusters };
  }
}

/** What a check counted of clusters. */
export type ClusterFacts = Pick<
  CheckReport,
  'imageEndOffset' | 'totalClusters' | 'allocatedClusters' | 'fragmentedClusters' | 'compressedClusters'
>;

const noClusters: ClusterFacts = {
  imageEndOffset: 0,
  totalClusters: 0,
  allocatedClusters: 0,
  fragmentedClusters: 0,
  compressedClusters: 0,
};

async function examine(subject: CheckSubject, findings: Findings): Promise<ClusterFacts> {
  const snapshots = await snapshotsToCheck(subject.file, subject.header, findings, false);
  const walk = await countReferences(subject, snapshots, findings, { refcountStructures: true });
  const last = await compareRefcounts(walk.state);
  await checkExclusiveFlags(walk.state, walk.walks);
  return factsOf(walk, last);
}

/** `lastCluster` is the last one in use. */
export function factsOf({ state, clusters }: Walk, lastCluster: number): ClusterFacts {
  const { geometry, header } = state;
  return {
    imageEndOffset: (lastCluster + 1) * geometry.clusterSize,
    totalClusters: clustersFor(geometry, header.size),
    ...clusters,
  };
}
