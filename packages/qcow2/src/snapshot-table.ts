/**
 * The snapshot table as bytes: its entries as they were found, and new ones.
 *
 * An entry that is not changed is kept byte for byte, with whatever extra data it has. Only where version 3
 * demands more of it than is there it is filled up, as QEMU does.
 *
 * Spec: qcow2.txt, "Snapshots".
 */
import { DiskError, type HostSource } from '@strata/block';
import type { Header } from './header.ts';
import { readSnapshotTable, type SnapshotEntry } from './snapshots.ts';
import { readAt } from './table-reader.ts';

const FIXED = 40;
/** VM state size, disk size, icount. */
const EXTRA = 24;
/** Bytes of extra data that version 3 demands: VM state size and disk size. */
export const DEMANDED_EXTRA = 16;
const SPEC = 'qcow2.txt, "Snapshots"';

/** What the maker of a snapshot says of it. */
export interface NewSnapshot {
  readonly name: string;
  /** Since 1970-01-01. */
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
}

/** A snapshot table with its entries as bytes. */
export interface EncodedTable {
  readonly entries: readonly SnapshotEntry[];
  /** The entries, each filled up to a multiple of 8 bytes. */
  readonly slices: readonly Uint8Array[];
  /** Bytes that the table takes where it is. */
  readonly length: number;
}

/** The snapshot table of an image. @throws {DiskError} limit */
export async function readEncodedTable(file: HostSource, header: Header): Promise<EncodedTable> {
  const { snapshotsAt, snapshotCount } = header;
  const { entries, length, problem } = await readSnapshotTable(file, snapshotsAt, snapshotCount);
  if (problem !== undefined)
    throw new DiskError('limit', problem.message, { offset: snapshotsAt, spec: SPEC });
  const bytes = Buffer.alloc(length);
  await readAt(file, bytes, snapshotsAt);
  const slices = entries.map((entry) => wholeEntry(header, entry, bytes.subarray(entry.start, entry.end)));
  return { entries, slices, length };
}

/** Entries that a repair keeps, within the limits and with all that their version demands. */
export async function repairedSlices(
  file: HostSource,
  at: number,
  header: Header,
  entries: readonly SnapshotEntry[],
): Promise<readonly Uint8Array[]> {
  const slices: Uint8Array[] = [];
  for (const entry of entries) {
    const head = Buffer.alloc(FIXED + entry.extraSize);
    await readAt(file, head, at + entry.start);
    head.writeUInt32BE(entry.extraSize, 36);
    const tail = Buffer.alloc(entry.end - entry.start - FIXED - entry.claimedExtraSize);
    await readAt(file, tail, at + entry.end - tail.length);
    slices.push(wholeEntry(header, entry, Buffer.concat([head, tail])));
  }
  return slices;
}

/** An entry with all that its version demands, filled up to a multiple of 8 bytes. */
function wholeEntry(header: Header, entry: SnapshotEntry, bytes: Buffer): Uint8Array {
  if (header.version === 2 || entry.extraSize >= DEMANDED_EXTRA) return filledUp(bytes);
  const fixed = Buffer.from(bytes.subarray(0, FIXED));
  fixed.writeUInt32BE(EXTRA, 36);
  const diskSize = entry.diskSize ?? BigInt(header.size);
  const extra = extraData(entry.vmStateSize, diskSize, 0xffff_ffff_ffff_ffffn);
  return filledUp(Buffer.concat([fixed, extra, bytes.subarray(FIXED + entry.extraSize)]));
}

/** A new entry. */
export function encodeEntry(
  snapshot: NewSnapshot & {
    readonly id: string;
    readonly diskSize: number;
    readonly l1At: number;
    readonly l1Entries: number;
  },
): Uint8Array {
  const id = Buffer.from(snapshot.id, 'utf8');
  const name = Buffer.from(snapshot.name, 'utf8');
  if (name.length > 0xffff) throw new DiskError('invalid', 'the name of a snapshot has 65,535 bytes at most');
  const fixed = Buffer.alloc(FIXED);
  fixed.writeBigUInt64BE(BigInt(snapshot.l1At), 0);
  fixed.writeUInt32BE(snapshot.l1Entries, 8);
  fixed.writeUInt16BE(id.length, 12);
  fixed.writeUInt16BE(name.length, 14);
  fixed.writeUInt32BE(snapshot.dateSeconds, 16);
  fixed.writeUInt32BE(snapshot.dateNanoseconds, 20);
  fixed.writeUInt32BE(EXTRA, 36);
  // QEMU counts no instructions for a snapshot that is made without a machine, and says 0.
  return filledUp(Buffer.concat([fixed, extraData(0n, BigInt(snapshot.diskSize), 0n), id, name]));
}

/** The next id: one more than the largest number among those there are. */
export function nextId(entries: readonly SnapshotEntry[]): string {
  let largest = 0n;
  for (const { id } of entries) {
    const digits = /^\s*\+?(\d+)/.exec(id)?.[1] ?? '0';
    const number = BigInt.asUintN(64, BigInt(digits));
    if (number > largest) largest = number;
  }
  return BigInt.asUintN(64, largest + 1n).toString();
}

function extraData(vmStateSize: bigint, diskSize: bigint, icount: bigint): Buffer {
  const extra = Buffer.alloc(EXTRA);
  extra.writeBigUInt64BE(vmStateSize, 0);
  extra.writeBigUInt64BE(diskSize, 8);
  extra.writeBigUInt64BE(icount, 16);
  return extra;
}

function filledUp(bytes: Uint8Array): Uint8Array {
  const filled = new Uint8Array(Math.ceil(bytes.length / 8) * 8);
  filled.set(bytes);
  return filled;
}
