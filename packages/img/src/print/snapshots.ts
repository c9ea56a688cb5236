/** The list of an image's internal snapshots: a table whose columns and dates are qemu-img's. */
import { formatSize } from '@strata/block';

/** An internal snapshot. */
export interface SnapshotReport {
  readonly id: string;
  readonly name: string;
  readonly vmStateSize: number;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  readonly clockSeconds: number;
  readonly clockNanoseconds: number;
  readonly icount: number | undefined;
}

/** The lines of the list; none if there is no snapshot. */
export function snapshotLines(snapshots: readonly SnapshotReport[]): readonly string[] {
  return snapshots.length === 0 ? [] : ['Snapshot list:', snapshotHead, ...snapshots.map(snapshotRow)];
}

const snapshotHead = snapshotColumns('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT');

function snapshotColumns(
  id: string,
  tag: string,
  size: string,
  date: string,
  clock: string,
  icount: string,
): string {
  const left = `${id.padEnd(9)} ${tag.padEnd(16)} ${size.padStart(8)}`;
  return `${left}${date.padStart(20)}${clock.padStart(13)}${icount.padStart(11)}`;
}

function snapshotRow(snapshot: SnapshotReport): string {
  return snapshotColumns(
    snapshot.id,
    snapshot.name,
    formatSize(snapshot.vmStateSize),
    localDate(snapshot.dateSeconds),
    clock(snapshot.clockSeconds, snapshot.clockNanoseconds),
    snapshot.icount === undefined ? '' : String(snapshot.icount),
  );
}

function localDate(seconds: number): string {
  const date = new Date(seconds * 1000);
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map(twoDigits).join('-');
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(':');
  return `${day} ${time}`;
}

function clock(seconds: number, nanoseconds: number): string {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const milliseconds = Math.floor(nanoseconds / 1_000_000);
  return `${parts.map(twoDigits).join(':')}.${String(milliseconds).padStart(3, '0')}`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}
