/**
 * The snapshot table: which internal snapshots an image holds, and where their L1 tables lie.
 *
 * QEMU's limits hold: 65,536 snapshots, 64 MiB of table, 1024 bytes of extra data in an entry. A snapshot's
 * L1 table is judged where it is used and not here, so that a list can be shown of a damaged image.
 *
 * Spec: qcow2.txt, "Snapshots".
 */
import { DiskError, type HostSource, type SnapshotChoice } from '@strata/block';
import { textOf } from './extensions.ts';
import { MAX_L1_BYTES, MAX_SNAPSHOT_EXTRA, MAX_SNAPSHOT_TABLE_BYTES } from './format.ts';
import { geometryOf, type HostOffset, hostOffset, l1EntriesFor } from './geometry.ts';
import type { Header } from './header.ts';
import { EntryReader, numberOf } from './table-reader.ts';

const FIXED = 40;
/** Bytes of an id and of a name that QEMU's list has room for. */
const SHOWN_ID = 127;
const SHOWN_NAME = 255;
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
  /** The same as the entry says it, which may be more than is read of it. */
  readonly claimedExtraSize: number;
  /** Where the entry starts in the table, and where it ends. */
  readonly start: number;
  readonly end: number;
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

/** A snapshot table, as far as it can be read. */
export interface SnapshotTable {
  readonly entries: readonly SnapshotEntry[];
  /** In bytes. */
  readonly length: number;
  /** What was cut off entries, in QEMU's words: extra data beyond the limit. */
  readonly shortened: readonly string[];
  /** Why the rest was not read, and what qemu-img advises then. */
  readonly problem: { readonly message: string; readonly advice: string } | undefined;
}

/** How a snapshot table is read. */
interface SnapshotTableOptions {
  /** Extra data beyond the limit is left out; otherwise the table cannot be read from there on. */
  readonly shorten?: boolean;
  /** Ids and names are cut to what QEMU shows of them: 64 MiB of names make no list for people. */
  readonly shortNames?: boolean;
}

/** Reads a snapshot table of `count` entries at `at`, within the limits. */
export async function readSnapshotTable(
  file: HostSource,
  at: number,
  count: number,
  { shorten = false, shortNames = false }: SnapshotTableOptions = {},
): Promise<SnapshotTable> {
  const reader = new EntryReader(file, at);
  const entries: SnapshotEntry[] = [];
  const shortened: string[] = [];
  const cutShort = (message: string, what: string): SnapshotTable => {
    const advice = `You can force-remove ${what} with qemu-img check -r all`;
    return { entries, shortened, length: end, problem: { message, advice } };
  };
  let end = 0;
  let leftOut = 0;
  for (let index = 0; index < count; index++) {
    reader.align();
    const cut = (from: number): void => {
      leftOut += from - MAX_SNAPSHOT_EXTRA;
      const message = `Discarding too much extra metadata in snapshot table entry ${index}`;
      shortened.push(`${message} (${from} > ${MAX_SNAPSHOT_EXTRA})`);
    };
    const entry = await readEntry(reader, shorten ? cut : undefined, shortNames);
    if (entry === undefined)
      return cutShort(`Too much extra metadata in snapshot table entry ${index}`, 'this extra metadata');
    if (reader.offset - leftOut > MAX_SNAPSHOT_TABLE_BYTES || reader.offset > 0x7fff_ffff)
      return cutShort('Snapshot table is too big', `all ${count - index} overhanging snapshots`);
    entries.push(entry);
    end = reader.offset;
  }
  return { entries, shortened, length: end, problem: undefined };
}

async function readEntry(
  reader: EntryReader,
  cut: ((from: number) => void) | undefined,
  shortNames: boolean,
): Promise<SnapshotEntry | undefined> {
  const start = reader.offset;
  const fixed = await reader.take(FIXED);
  const l1At = fixed.readBigUInt64BE(0);
  const l1Entries = fixed.readUInt32BE(8);
  const idLength = fixed.readUInt16BE(12);
  const nameLength = fixed.readUInt16BE(14);
  const dateSeconds = fixed.readUInt32BE(16);
  const dateNanoseconds = fixed.readUInt32BE(20);
  const clockNanoseconds = fixed.readBigUInt64BE(24);
  const vmStateSize = BigInt(fixed.readUInt32BE(32));
  const claimed = fixed.readUInt32BE(36);
  if (claimed > MAX_SNAPSHOT_EXTRA && cut === undefined) return undefined;
  const extraSize = Math.min(claimed, MAX_SNAPSHOT_EXTRA);
  const extra = Buffer.from(await reader.take(extraSize));
  if (claimed > extraSize) {
    cut?.(claimed);
    reader.skip(claimed - extraSize);
  }
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
    claimedExtraSize: claimed,
    id: textOf((await reader.take(idLength)).subarray(0, shortNames ? SHOWN_ID : idLength)),
    name: textOf((await reader.take(nameLength)).subarray(0, shortNames ? SHOWN_NAME : nameLength)),
    start,
    end: reader.offset,
  };
}

/**
 * The snapshots of an image, oldest first.
 *
 * @throws {DiskError} limit
 */
export async function listSnapshots(file: HostSource, header: Header): Promise<readonly Snapshot[]> {
  const { snapshotsAt, snapshotCount } = header;
  const short = { shortNames: true };
  const { entries, problem } = await readSnapshotTable(file, snapshotsAt, snapshotCount, short);
  if (problem !== undefined)
    throw new DiskError('limit', problem.message, { offset: snapshotsAt, spec: SPEC });
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

/** The entry that is meant; undefined if there is none. */
export function findSnapshot<Entry extends Pick<SnapshotEntry, 'id' | 'name'>>(
  entries: readonly Entry[],
  choice: SnapshotChoice,
): Entry | undefined {
  if ('idOrName' in choice) {
    const { idOrName } = choice;
    return entries.find(({ id }) => id === idOrName) ?? entries.find(({ name }) => name === idOrName);
  }
  const { id, name } = choice;
  if (id === undefined && name === undefined) return undefined;
  return entries.find(
    (entry) => (id === undefined || entry.id === id) && (name === undefined || entry.name === name),
  );
}

/**
 * Where the L1 table of a snapshot is, judged, with as many entries as its disk has: what lies behind them
 * is the state of a virtual machine.
 *
 * @throws {DiskError} not-found, corrupt, limit
 */
export async function l1OfSnapshot(
  file: HostSource,
  header: Header,
  choice: SnapshotChoice,
): Promise<Pick<Header, 'l1At' | 'l1Entries'>> {
  const { entries, problem } = await readSnapshotTable(file, header.snapshotsAt, header.snapshotCount);
  if (problem !== undefined)
    throw new DiskError('limit', problem.message, { offset: header.snapshotsAt, spec: SPEC });
  const entry = findSnapshot(entries, choice);
  if (entry === undefined) throw new DiskError('not-found', "Can't find snapshot", { op: 'snapshot' });
  const l1At = judgeL1(header, entry);
  const diskSize = entry.diskSize ?? BigInt(header.size);
  const needed =
    diskSize > BigInt(Number.MAX_SAFE_INTEGER)
      ? entry.l1Entries
      : l1EntriesFor(geometryOf(header), Number(diskSize));
  return { l1At, l1Entries: Math.min(entry.l1Entries, needed) };
}

/** Where a snapshot's L1 table is. @throws {DiskError} corrupt, limit */
export function judgeL1(header: Header, { l1At, l1Entries }: SnapshotEntry): HostOffset {
  const where = { op: 'snapshot', spec: SPEC };
  const bytes = l1Entries * 8;
  if (bytes > MAX_L1_BYTES) throw new DiskError('limit', 'Snapshot L1 table too large', where);
  if (l1At % 2n ** BigInt(header.clusterBits) !== 0n || l1At + BigInt(bytes) > 2n ** 63n)
    throw new DiskError('corrupt', 'Snapshot L1 table offset invalid', where);
  if (l1At + BigInt(bytes) > BigInt(Number.MAX_SAFE_INTEGER))
    throw new DiskError('limit', 'Snapshot L1 table offset is past 2^53', where);
  return hostOffset(Number(l1At));
}
