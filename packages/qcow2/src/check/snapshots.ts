/**
 * The snapshot table, as a check sees it: read, judged, and cut to what a repair can keep.
 *
 * Spec: qcow2.txt, "Snapshots".
 */
import type { HostSource } from '@strata/block';
import { hasFeature } from '../features.ts';
import { MAX_L1_BYTES, MAX_SNAPSHOTS } from '../format.ts';
import type { Header } from '../header.ts';
import { readSnapshotTable, type SnapshotEntry } from '../snapshots.ts';
import { readAt } from '../table-reader.ts';
import { type Findings, repairing } from './findings.ts';
import { say } from './sentences.ts';
import { CheckFailed, type CheckState } from './state.ts';

/** The snapshots of an image that is checked, and where their table is. */
export interface SnapshotsToCheck {
  readonly entries: readonly SnapshotEntry[];
  readonly at: number;
  readonly length: number;
  /** How many faults of the table itself are repaired if it is written anew. */
  readonly faults: number;
}

/**
 * Reads the snapshot table. It is judged here and not when the header is parsed: a broken one is a finding.
 * `repair`: what is beyond the limits is left out, and is a fault that a new table mends.
 *
 * @throws {CheckFailed} if it cannot be read
 */
export async function snapshotsToCheck(
  file: HostSource,
  header: Header,
  findings: Findings,
  repair: boolean,
): Promise<SnapshotsToCheck> {
  const fields = Buffer.alloc(12);
  await readAt(file, fields, 60);
  const listed = fields.readUInt32BE(0);
  const at = fields.readBigUInt64BE(4);
  const clusterSize = 2n ** BigInt(header.clusterBits);
  let faults = 0;
  const over = listed - MAX_SNAPSHOTS;
  if (over > 0 && !repair) {
    findings.error(say.plain, 'ERROR snapshot table too large');
    findings.note(say.tooManySnapshots, over);
    throw new CheckFailed('File too large');
  }
  if (over > 0) {
    findings.note(say.plain, `Discarding ${over} overhanging snapshots`);
    faults += over;
  }
  const count = Math.min(listed, MAX_SNAPSHOTS);
  if (at % clusterSize !== 0n || at + BigInt(count * 40) >= 2n ** 63n) {
    findings.error(say.plain, 'ERROR snapshot table offset invalid');
    throw new CheckFailed('Invalid argument');
  }
  const table = await readSnapshotTable(file, Number(at), count, { shorten: repair });
  if (table.problem !== undefined && !repair) {
    findings.error(say.unreadableSnapshots, table.problem.message);
    findings.note(say.plain, table.problem.advice);
    throw new CheckFailed('File too large');
  }
  for (const note of table.shortened) findings.note(say.plain, note);
  faults += table.shortened.length;
  if (table.problem !== undefined) {
    const gone = count - table.entries.length;
    findings.note(say.plain, `Discarding ${gone} overhanging snapshots (snapshot table is too big)`);
    faults += gone;
  }
  table.entries.forEach((entry, index) => {
    if (header.version < 3 || entry.extraSize >= 16) return;
    faults++;
    if (repair) findings.note(repairing(say.shortSnapshotEntry), index);
    else findings.corruption(1, say.shortSnapshotEntry, index);
  });
  return { entries: table.entries, at: Number(at), length: table.length, faults };
}

/** Counts the references to the table's clusters. One that is longer than the file keeps what it has of it. */
export function countSnapshotTable(state: CheckState, { at, length }: SnapshotsToCheck): void {
  const { file, references, findings } = state;
  if (length === 0 || references.reaches(at, length)) {
    references.count(at, length);
    return;
  }
  if (at < file.size) references.keep(at, file.size - at);
  findings.corruption(1, say.outsideFile, Math.floor(at / 2 ** 32), at % 2 ** 32, length);
}

/** The L1 tables of snapshots that can be followed; the others are findings. */
export function judgeL1s(
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
