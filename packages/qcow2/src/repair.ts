/**
 * Repairs what a check finds: leaks only, or all that can be put right.
 *
 * What is wrong in place is put right in place where that is one sector at a time and never for the worse: L2
 * entries that lead nowhere sound become zeros, then refcounts, then "exclusive" flags, each made durable before
 * the next. Where refcount blocks are missing, broken or shared, a whole new refcount structure is written to
 * clusters that nothing uses, and one write to the header switches to it. At last, if nothing is left that is
 * wrong, the header says so. A power cut leaves an image that another repair puts right, and takes nothing from
 * the guest.
 *
 * The findings and their order are qemu-img's. Where QEMU itself does harm we differ: clusters behind the end of
 * the file that something refers to are in use, a refcount block behind it is made anew instead of the file
 * made as long, and the new structure never lies on the old one.
 *
 * Spec: qcow2.txt, "Host cluster management".
 */
import { type HostFile, isDiskError } from '@strata/block';
import { type Counts, Findings, repairing } from './check/findings.ts';
import { checkExclusiveFlags, type FlagRepair } from './check/mapping.ts';
import { Mending } from './check/mending.ts';
import { compareRefcounts, repairRefcounts } from './check/refcounts.ts';
import { say } from './check/sentences.ts';
import { type SnapshotsToCheck, snapshotsToCheck } from './check/snapshots.ts';
import { CheckFailed, type CheckState } from './check/state.ts';
import { beginCheck, type CheckSubject, countReferences, type Walk } from './check/walk.ts';
import { type CheckOptions, type CheckReport, type ClusterFacts, factsOf, reportOf } from './check.ts';
import { withExclusive } from './entries.ts';
import { hasFeature } from './features.ts';
import { Incompatible, KNOWN_AUTOCLEAR } from './format.ts';
import { clustersFor } from './geometry.ts';
import { readHeader } from './header.ts';
import { featuresPatch, refcountTablePatch } from './header-encode.ts';
import { Image } from './image.ts';
import { type CountsInUse, Renewal } from './renewal.ts';
import { replaceSnapshotTable } from './snapshot-changes.ts';
import { repairedSlices } from './snapshot-table.ts';

const MOST_HELD_BACK = 2 ** 30;

/** What a repair found, and what it did. The counts of faults are those that are left, as far as it can tell. */
export interface RepairReport extends CheckReport {
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
}

/** What is repaired: `leaks`, clusters that are counted and not used; or `all`, faults too. */
export type RepairScope = 'leaks' | 'all';

/**
 * Repairs the image in `file`, which must be open for nobody else. A check afterwards tells what is left.
 *
 * @throws {DiskError} as `checkImage`, and what the file throws
 */
export async function repairImage(
  file: HostFile,
  scope: RepairScope,
  options: CheckOptions = {},
): Promise<RepairReport> {
  await reachReferences(file, scope, options);
  const subject = await beginCheck(file, options.signal);
  const findings = new Findings();
  const report = await reportOf(findings, () => repair(file, subject, findings, scope, options));
  if (report.failed === undefined && report.checkErrors === 0 && report.corruptions === 0)
    await markSound(file);
  return { ...report, ...findings.fixed() };
}

/**
 * A writer that was killed while refcounts were stale may have left entries that lead behind the end of the
 * file, where its data did not arrive. The file is made as long, so that these clusters are used and zeros.
 */
async function reachReferences(file: HostFile, scope: RepairScope, options: CheckOptions): Promise<void> {
  if (scope !== 'all' || !hasFeature(await readHeader(file, { forCheck: true }), 'dirty')) return;
  const subject = await beginCheck(file, options.signal);
  const findings = new Findings();
  try {
    const snapshots = await snapshotsToCheck(file, subject.header, findings, true);
    const { state } = await countReferences(subject, snapshots, findings, { refcountStructures: false });
    await extend(file, state);
  } catch (error) {
    if (!(error instanceof CheckFailed)) throw error;
  }
}

/** Makes the file reach what is referred to behind its end, if a sound writer could have come that far. */
async function extend(file: HostFile, { references, header }: CheckState): Promise<void> {
  // All data of the guest and some tables, and no more than what a host holds back before it writes.
  const guest = file.size + header.size + 64 * 1024 * 1024;
  const end = references.outsideEnd(Math.min(guest, 2 * file.size + MOST_HELD_BACK));
  if (end <= file.size) return;
  await file.truncate(end);
  await file.flush();
}

async function repair(
  file: HostFile,
  subject: CheckSubject,
  findings: Findings,
  scope: RepairScope,
  options: CheckOptions,
): Promise<ClusterFacts> {
  const all = scope === 'all';
  const snapshots = await snapshotsToCheck(file, subject.header, findings, all);
  const mending = new Mending();
  const how = { refcountStructures: true, ...(all && { mending }) };
  let walk = await countReferences(subject, snapshots, findings, how);
  findings.notRepaired(await mending.write(file, walk.state.geometry, (at) => isAlone(walk, at)));

  const counted = findings.mark();
  let last = await compareRefcounts(walk.state);
  if (walk.state.needsRebuild) {
    if (!all) {
      findings.note(say.plain, 'ERROR need to rebuild refcount structures');
      throw new CheckFailed('Input/output error');
    }
    if (walk.isHeaderTable) {
      // The new place would be in those tables too, and a repair would never come to an end.
      findings.note(say.plain, 'ERROR cannot rebuild refcount structure: there is a table on the header');
      return factsOf(walk, last);
    }
    findings.note(say.plain, 'Rebuilding refcount structure');
    const before = findings.mark();
    await rebuildRefcounts(file, subject, snapshots, walk, findings);
    findings.reset({ corruptions: 0, leaks: 0, checkErrors: counted.checkErrors });
    const rebuilt = await beginCheck(file, options.signal);
    walk = await countReferences(rebuilt, snapshots, findings, { refcountStructures: true });
    findings.repairedSince(before);
    last = walk.state.references.clusters - 1;
  } else if (isLeftOf(findings.mark())) {
    findings.reset(counted);
    await repairRefcounts(walk.state, { file, corruptions: all });
  }
  // What is left of leaks and faults makes refcounts doubtful, and flags follow refcounts.
  const left = findings.mark();
  const mayMendFlags = all || !(isLeftOf(left) || left.checkErrors > 0);
  await checkExclusiveFlags(walk.state, walk.walks, mayMendFlags ? flagRepair(file, walk) : undefined);
  await file.flush();
  if (all && snapshots.faults > 0) {
    await repairSnapshots(file, snapshots, walk, findings);
    findings.faultsRepaired(await mendFlagsAgain(file, options));
  }
  return factsOf(walk, last);
}

const isLeftOf = ({ corruptions, leaks }: Counts): boolean => corruptions + leaks > 0;

/** True if nothing but L2 tables is in the cluster of an entry: nothing else is damaged if it is changed. */
function isAlone({ state, walks }: Walk, at: number): boolean {
  const cluster = Math.floor(at / state.geometry.clusterSize);
  return state.references.of(cluster) === walks.covering(cluster);
}

function flagRepair(file: HostFile, walk: Walk): FlagRepair {
  const { header, geometry, references } = walk.state;
  let mayChangeL1 = true;
  for (let i = 0; i < clustersFor(geometry, header.l1Entries * 8); i++)
    mayChangeL1 &&= references.of(header.l1At / geometry.clusterSize + i) === 1;
  return {
    mayChangeL1,
    mayChangeL2: (at) => isAlone(walk, at),
    setFlag: async (at, high, exclusive) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(withExclusive(high, exclusive));
      await file.write(bytes, at);
    },
  };
}

/** Writes a new refcount table and new blocks, and switches the header to them. */
async function rebuildRefcounts(
  file: HostFile,
  subject: CheckSubject,
  snapshots: SnapshotsToCheck,
  { state: old }: Walk,
  findings: Findings,
): Promise<void> {
  // The new structure may make the file longer, and what lies behind the end now must not come to lie in it.
  await extend(file, old);
  // The old structures are in use until the switch, and count for nothing after it.
  const walk = await countReferences(subject, snapshots, new Findings(), { refcountStructures: false });
  const { references, geometry } = walk.state;
  const { refcountBlockEntries } = geometry;
  const inUse: CountsInUse = {
    regions: Math.ceil(references.clusters / refcountBlockEntries),
    table: { first: 0, count: 0 },
    guard: () => undefined,
    region: async (region) => ({
      uses: (index) => references.of(region * refcountBlockEntries + index),
      block: undefined,
    }),
    isTaken: (cluster) => old.references.of(cluster) > 0 || references.isUsedOutside(cluster),
  };
  const renewal = new Renewal(geometry, inUse);
  const end = references.clusters;
  for (let cluster = 0; cluster < end; ) {
    const used = references.nextUsed(cluster, end);
    if (used < end) renewal.touch(used);
    cluster =
      used < end ? Math.min((Math.floor(used / refcountBlockEntries) + 1) * refcountBlockEntries, end) : end;
  }
  const table = await renewal.placeRefcounts();
  for await (const { at, bytes } of renewal.refcountWrites(table)) await file.write(bytes, at);
  await file.flush();
  const patch = refcountTablePatch(table.at, table.clusters);
  await file.write(patch.bytes, patch.offset);
  await file.flush();
  // QEMU counts the old structures in the new ones, and frees them then: so it tells.
  for (let cluster = old.references.nextUsed(0, end); cluster < end; ) {
    const [before, after] = [old.references.of(cluster), references.of(cluster)];
    if (before > after) findings.note(repairing(say.leaked), cluster, `${before}`, after);
    cluster = old.references.nextUsed(cluster + 1, end);
  }
}

/** A cluster that the old snapshot table shared with data is the data's alone now. Returns how many flags. */
async function mendFlagsAgain(file: HostFile, options: CheckOptions): Promise<number> {
  const subject = await beginCheck(file, options.signal);
  const findings = new Findings();
  const snapshots = await snapshotsToCheck(file, subject.header, findings, false);
  const walk = await countReferences(subject, snapshots, findings, { refcountStructures: true });
  await checkExclusiveFlags(walk.state, walk.walks, flagRepair(file, walk));
  await file.flush();
  return findings.fixed().corruptionsFixed;
}

async function repairSnapshots(
  file: HostFile,
  snapshots: SnapshotsToCheck,
  { state }: Walk,
  findings: Findings,
): Promise<void> {
  const fail = (why: string): never => {
    findings.error(say.plain, `ERROR failed to update snapshot table: ${why}`);
    throw new CheckFailed('Input/output error');
  };
  const { at, length, entries } = snapshots;
  const { references } = state;
  const found = findings.mark();
  if (found.checkErrors > 0) fail('Input/output error');
  const isInFile = references.reaches(at, length);
  // A table that ends behind the file is a fault of its own, and goes with it.
  const left = { ...found, corruptions: found.corruptions - (isInFile ? 0 : 1) };
  const header = await readHeader(file, { forCheck: true });
  const slices = await repairedSlices(file, at, header, entries);
  const image = new Image(file, { ...header, snapshotCount: entries.length, incompatible: 0n }, {});
  const isTaken = (cluster: number): boolean =>
    references.of(cluster) > 0 || references.isUsedOutside(cluster);
  try {
    await replaceSnapshotTable(image, { entries, slices, length: isInFile ? length : 0 }, isTaken);
  } catch (error) {
    if (!isDiskError(error)) throw error;
    fail(error.message);
  }
  await image.close();
  findings.reset(left);
  findings.faultsRepaired(snapshots.faults);
}

/** The header of an image in which nothing is wrong says so. */
async function markSound(file: HostFile): Promise<void> {
  const header = await readHeader(file, { forCheck: true });
  if (header.version < 3) return;
  const incompatible = header.incompatible & ~(Incompatible.dirty | Incompatible.corrupt);
  const autoclear = header.autoclear & KNOWN_AUTOCLEAR;
  if (incompatible === header.incompatible && autoclear === header.autoclear) return;
  const { offset, bytes } = featuresPatch({ ...header, incompatible, autoclear });
  await file.write(bytes, offset);
  await file.flush();
}
