/**
 * The snapshot table: which internal snapshots an image holds, and where their L1 tables lie.
 *
 * QEMU's limits hold: 65,536 snapshots, 64 MiB of table, 1024 bytes of extra data in an entry. A snapshot's
 * L1 table is judged where it is used and not here, so that a list can be shown of a damaged image.
 *
 * Spec: qcow2.txt, "Snapshots".
 */
import { DiskError, type HostSource } from '@strata/block';
import { textOf } from './extensions.ts';
import { MAX_SNAPSHOT_EXTRA, MAX_SNAPSHOT_TABLE_BYTES } from './format.ts';
import type { Header } from './header.ts';
import { EntryReader, numberOf } from './table-reader.ts';

const FIXED = 40;
const SPEC = 'qcow2.txt, "Snapshots"';

/** An entry of the snapshot table as it stands there. Nothing of it is judged but its length. */
export interface SnapshotEntry {
  readonly l1At: bigint;
  readonly l1Entries: number;
  readonly id: string;
  readonly name: string;
  /** Since 1970-01-01. */
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  /** For how long the guest had run. */
  readonly clockNanoseconds: bigint;
  /** Bytes of the virtual machine's state. */
  readonly vmStateSize: bigint;
  /** Bytes of the disk as it was; undefined in entries of old programs. */
  readonly diskSize: bigint | undefined;
  /** Instructions that the guest had run, if they were counted. */
  readonly icount: bigint | undefined;
  /** Bytes of extra data. Version 3 demands 16 at least. */
  readonly extraSize: number;
}

/** A snapshot of the list. */
export interface Snapshot {
  readonly id: string;
  readonly name: string;
  /** Bytes of the virtual machine's state. */
  readonly vmStateSize: number;
  /** Bytes of the disk as it was. */
  readonly diskSize: number;
  /** Since 1970-01-01. */
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  /** For how long the guest had run: whole seconds, and the rest. */
  readonly clockSeconds: number;
  readonly clockNanoseconds: number;
  /** Instructions that the guest had run, if they were counted. */
  readonly icount: number | undefined;
  /** Where its L1 table lies, and how many entries that has. Not judged: whoever follows it must. */
  readonly l1At: number;
  readonly l1Entries: number;
}

/**
 * The entries of a snapshot table of `count` entries at `at`, and its length in bytes.
 *
 * @throws {DiskError} limit
 */
export async function readSnapshotTable(
  file: HostSource,
  at: number,
  count: number,
): Promise<{ readonly entries: readonly SnapshotEntry[]; readonly length: number }> {
  const reader = new EntryReader(file, at);
  const entries: SnapshotEntry[] = [];
  for (let index = 0; index < count; index++) {
    reader.align();
    entries.push(await readEntry(reader, at, index));
    if (reader.offset > MAX_SNAPSHOT_TABLE_BYTES)
      throw new DiskError('limit', 'Snapshot table is too big', { offset: at, spec: SPEC });
  }
  return { entries, length: reader.offset };
}

async function readEntry(reader: EntryReader, at: number, index: number): Promise<SnapshotEntry> {
  const offset = at + reader.offset;
  const fixed = await reader.take(FIXED);
  const l1At = fixed.readBigUInt64BE(0);
  const l1Entries = fixed.readUInt32BE(8);
  const idLength = fixed.readUInt16BE(12);
  const nameLength = fixed.readUInt16BE(14);
  const dateSeconds = fixed.readUInt32BE(16);
  const dateNanoseconds = fixed.readUInt32BE(20);
  const clockNanoseconds = fixed.readBigUInt64BE(24);
  const vmStateSize = BigInt(fixed.readUInt32BE(32));
  const extraSize = fixed.readUInt32BE(36);
  if (extraSize > MAX_SNAPSHOT_EXTRA) {
    const message = `Too much extra metadata in snapshot table entry ${index}`;
    throw new DiskError('limit', message, { offset, spec: SPEC });
  }
  const extra = await reader.take(extraSize);
  const extraField = (from: number): bigint | undefined =>
    extraSize >= from + 8 ? extra.readBigUInt64BE(from) : undefined;
  const largeVmStateSize = extraField(0);
  const diskSize = extraField(8);
  const icount = extraField(16);
  return {
    l1At,
    l1Entries,
    dateSeconds,
    dateNanoseconds,
    clockNanoseconds,
    vmStateSize: largeVmStateSize ?? vmStateSize,
    diskSize,
    icount: icount === 0xffff_ffff_ffff_ffffn ? undefined : icount,
    extraSize,
    id: textOf(await reader.take(idLength)),
    name: textOf(await reader.take(nameLength)),
  };
}

/**
 * The snapshots of an image, oldest first.
 *
 * @throws {DiskError} limit
 */
export async function listSnapshots(file: HostSource, header: Header): Promise<readonly Snapshot[]> {
  const { entries } = await readSnapshotTable(file, header.snapshotsAt, header.snapshotCount);
  return entries.map((entry, index) => {
    const what = (field: string): string => `snapshot table entry ${index}: ${field}`;
    return {
      id: entry.id,
      name: entry.name,
      vmStateSize: numberOf(entry.vmStateSize, what('VM state size')),
      diskSize: numberOf(entry.diskSize ?? BigInt(header.size), what('disk size')),
      dateSeconds: entry.dateSeconds,
      dateNanoseconds: entry.dateNanoseconds,
      clockSeconds: Number(entry.clockNanoseconds / 1_000_000_000n),
      clockNanoseconds: Number(entry.clockNanoseconds % 1_000_000_000n),
      icount: entry.icount === undefined ? undefined : numberOf(entry.icount, what('icount')),
      l1At: numberOf(entry.l1At, what('L1 table offset')),
      l1Entries: entry.l1Entries,
    };
  });
}
