/**
 * Where a partition lies: MBR with its chain of logical partitions, and GPT from either end of the disk.
 *
 * Tables are the guest's to write. Every number is checked against the disk, tables are bounded in size, and the chain
 * of logical partitions in length.
 *
 * Spec: UEFI specification 2.10, "GUID Partition Table (GPT) Disk Layout", "Legacy Master Boot Record (MBR)"
 */
import { crc32 } from 'node:zlib';
import { type BlockSource, DiskError } from '@strata/block';

/** A range of a disk. */
export interface PartitionRange {
  readonly start: number;
  readonly size: number;
}

const sector = 512;
/** Disks with larger sectors count in those. */
const gptSectors: readonly number[] = [512, 4096];
const mbrSignature = 0xaa55;
const extendedTypes: readonly number[] = [0x05, 0x0f, 0x85];
const protectiveType = 0xee;
const primaries = 4;
/** More logical partitions than any tool makes; a chain may be a loop. */
const mostLogical = 128;
const gptHeaderLength = 92;
/** The specification asks for 16 KiB at least; nobody makes more than some of these. */
const largestTable = 1024 * 1024;

/** @throws {DiskError} not-found if there is no such partition; corrupt for a table that contradicts itself or the disk */
export async function findPartition(disk: BlockSource, number: number): Promise<PartitionRange> {
  const found = (await inGpt(disk, number)) ?? (await inMbr(disk, number));
  if (found === undefined) throw new DiskError('not-found', `Could not find partition ${number}`);
  if (found.size > 0 && found.start + found.size <= disk.size) return found;
  throw new DiskError(
    'corrupt',
    `Partition ${number} is at ${found.start}+${found.size}, and the disk ends at ${disk.size}`,
  );
}

async function inMbr(disk: BlockSource, number: number): Promise<PartitionRange | undefined> {
  const entries = await bootRecord(disk, 0);
  if (entries === undefined) return undefined;
  const isExtended = ({ type }: MbrEntry): boolean => extendedTypes.includes(type);
  if (number <= primaries) return rangeOf(entries[number - 1], 0);
  const extended = entries.find(isExtended);
  if (extended === undefined) return undefined;
  const base = extended.start;
  let at = base;
  for (let logical = primaries + 1; logical <= primaries + mostLogical; logical++) {
    const [partition, next] = (await bootRecord(disk, at)) ?? [];
    if (partition === undefined || next === undefined) return undefined;
    if (logical === number) return rangeOf(partition, at);
    if (!isExtended(next) || next.start === 0) return undefined;
    at = base + next.start;
  }
  return undefined;
}

/** Counted in sectors. */
interface MbrEntry {
  readonly type: number;
  readonly start: number;
  readonly count: number;
}

/** The four entries of a boot record; undefined if there is none. */
async function bootRecord(disk: BlockSource, at: number): Promise<readonly MbrEntry[] | undefined> {
  const bytes = await readAt(disk, at * sector, sector);
  if (bytes === undefined || bytes.readUInt16LE(510) !== mbrSignature) return undefined;
  return Array.from({ length: primaries }, (_, index) => {
    const entry = 446 + 16 * index;
    return {
      type: bytes.readUInt8(entry + 4),
      start: bytes.readUInt32LE(entry + 8),
      count: bytes.readUInt32LE(entry + 12),
    };
  });
}

/** @param base the sector that the entry counts from */
function rangeOf(entry: MbrEntry | undefined, base: number): PartitionRange | undefined {
  if (entry === undefined || entry.type === 0 || entry.type === protectiveType || entry.count === 0) {
    return undefined;
  }
  return { start: (base + entry.start) * sector, size: entry.count * sector };
}

async function inGpt(disk: BlockSource, number: number): Promise<PartitionRange | undefined> {
  for (const size of gptSectors) {
    const last = Math.floor(disk.size / size) - 1;
    for (const at of [1, last]) {
      const table = await gptTable(disk, at, size);
      if (table !== undefined) return gptRange(table, number, size);
    }
  }
  return undefined;
}

interface GptTable {
  readonly entries: Buffer;
  readonly entryLength: number;
}

/** The table that the header in sector `at` leads to; undefined if there is none, or it is damaged. */
async function gptTable(disk: BlockSource, at: number, size: number): Promise<GptTable | undefined> {
  const header = at < 1 ? undefined : await readAt(disk, at * size, size);
  if (header === undefined || header.toString('latin1', 0, 8) !== 'EFI PART') return undefined;
  const length = header.readUInt32LE(12);
  if (length < gptHeaderLength || length > size) return undefined;
  const sum = header.readUInt32LE(16);
  header.writeUInt32LE(0, 16);
  if (crc32(header.subarray(0, length)) !== sum) return undefined;
  const [count, entryLength] = [header.readUInt32LE(80), header.readUInt32LE(84)];
  if (entryLength < 128 || entryLength % 8 !== 0 || count * entryLength > largestTable) return undefined;
  const entries = await readAt(disk, numberAt(header, 72) * size, count * entryLength);
  if (entries === undefined || crc32(entries) !== header.readUInt32LE(88)) return undefined;
  return { entries, entryLength };
}

function gptRange(
  { entries, entryLength }: GptTable,
  number: number,
  size: number,
): PartitionRange | undefined {
  const at = (number - 1) * entryLength;
  if (at >= entries.length || entries.subarray(at, at + 16).every((byte) => byte === 0)) return undefined;
  const [first, last] = [numberAt(entries, at + 32), numberAt(entries, at + 40)];
  return { start: first * size, size: (last - first + 1) * size };
}

/** A number of 64 bits; one that is too large becomes one that is outside of every disk. */
function numberAt(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

async function readAt(disk: BlockSource, at: number, length: number): Promise<Buffer | undefined> {
  if (at + length > disk.size) return undefined;
  const bytes = Buffer.alloc(length);
  await disk.read(bytes, at);
  return bytes;
}
