/**
 * The bitmap directory: which dirty bitmaps an image holds.
 *
 * Only the directory is read. A bitmap's own table and data can stand for gigabytes in a file of a few
 * kilobytes, and nobody who asks for the list wants them.
 *
 * Spec: qcow2.txt, "Bitmap directory".
 */
import { DiskError, type HostSource } from '@strata/block';
import { textOf } from './extensions.ts';
import {
  MAX_BITMAP_BYTES,
  MAX_BITMAP_GRANULARITY_BITS,
  MAX_BITMAP_NAME,
  MAX_BITMAP_TABLE_ENTRIES,
  MIN_BITMAP_GRANULARITY_BITS,
} from './format.ts';
import { type HostOffset, hostOffset } from './geometry.ts';
import type { Header } from './header.ts';
import { EntryReader, readAt } from './table-reader.ts';

const FIXED = 24;
const DIRTY_TRACKING = 1;
const FLAG_IN_USE = 1;
const FLAG_AUTO = 2;
const FLAG_EXTRA_COMPATIBLE = 4;
const SPEC = 'qcow2.txt, "Bitmap directory"';

/** A bitmap of the directory. */
export interface BitmapEntry {
  readonly name: string;
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number;
  /** It was not saved properly: its content must not be used. */
  readonly inUse: boolean;
  /** It records writes; without this flag it is disabled. */
  readonly auto: boolean;
  /** Where its table lies, and how many entries that has. Not compared with the length of the file. */
  readonly tableAt: HostOffset;
  readonly tableEntries: number;
  /** Where its entry of the directory lies. */
  readonly entryAt: HostOffset;
  /** Bytes in its entry of the directory that we do not know. They stay as they are. */
  readonly extraLength: number;
  /** Who does not know them may use the bitmap all the same. */
  readonly extraCompatible: boolean;
}

/**
 * The bitmaps of an image, in the order of the directory; none if the image has no valid bitmaps extension.
 *
 * @throws {DiskError} corrupt
 */
export async function listBitmaps(file: HostSource, header: Header): Promise<readonly BitmapEntry[]> {
  const extension = header.extensions.bitmaps;
  if (extension === undefined) return [];
  const { directoryAt, directorySize, count } = extension;
  const corrupt = (message: string): DiskError =>
    new DiskError('corrupt', message, { offset: directoryAt, spec: SPEC });

  if (directorySize === 0) throw corrupt('Requested bitmap directory size is zero');
  const reader = new EntryReader(file, directoryAt);
  const entries: BitmapEntry[] = [];
  const names = new Set<string>();
  while (reader.offset < directorySize) {
    const start = reader.offset;
    if (start + FIXED > directorySize) throw corrupt('Broken bitmap directory');
    if (entries.length === count) throw corrupt('More bitmaps found than specified in header extension');
    const fixed = Buffer.from(await reader.take(FIXED));
    const nameSize = fixed.readUInt16BE(18);
    const extraSize = fixed.readUInt32BE(20);
    const end = start + Math.ceil((FIXED + extraSize + nameSize) / 8) * 8;
    if (end > directorySize) throw corrupt('Broken bitmap directory');
    if (extraSize !== 0 && (fixed.readUInt32BE(12) & FLAG_EXTRA_COMPATIBLE) === 0)
      throw corrupt('Bitmap extra data is not supported');
    reader.skip(extraSize);
    const name = textOf(await reader.take(nameSize));
    reader.align();
    const entry = judge(fixed, name, header, hostOffset(directoryAt + start));
    if (entry === undefined) throw corrupt(`Bitmap '${name}' doesn't satisfy the constraints`);
    if (names.has(name)) throw corrupt(`Bitmap already exists: ${name}`);
    names.add(name);
    entries.push(entry);
  }
  if (entries.length !== count) throw corrupt('Less bitmaps found than specified in header extension');
  return entries;
}

function judge(fixed: Buffer, name: string, header: Header, entryAt: HostOffset): BitmapEntry | undefined {
  const clusterSize = 2 ** header.clusterBits;
  const tableAt = fixed.readBigUInt64BE(0);
  const tableEntries = fixed.readUInt32BE(8);
  const flags = fixed.readUInt32BE(12);
  const granularityBits = fixed.readUInt8(17);
  if (tableAt === 0n || tableAt % BigInt(clusterSize) !== 0n) return undefined;
  if (tableEntries === 0 || tableEntries > MAX_BITMAP_TABLE_ENTRIES) return undefined;
  if (granularityBits < MIN_BITMAP_GRANULARITY_BITS || granularityBits > MAX_BITMAP_GRANULARITY_BITS)
    return undefined;
  if ((flags & ~(FLAG_IN_USE | FLAG_AUTO | FLAG_EXTRA_COMPATIBLE)) !== 0) return undefined;
  if (fixed.readUInt16BE(18) > MAX_BITMAP_NAME || fixed.readUInt8(16) !== DIRTY_TRACKING) return undefined;
  const bytes = tableEntries * clusterSize;
  if (bytes > MAX_BITMAP_BYTES) return undefined;
  // A bitmap in use may be too short: the disk may have grown before it could be saved.
  const inUse = (flags & FLAG_IN_USE) !== 0;
  const granularity = 2 ** granularityBits;
  if (!inUse && header.size > bytes * 8 * granularity) return undefined;
  return {
    name,
    granularity,
    inUse,
    auto: (flags & FLAG_AUTO) !== 0,
    tableAt: hostOffset(Number(tableAt)),
    tableEntries,
    entryAt,
    extraLength: fixed.readUInt32BE(20),
    extraCompatible: (flags & FLAG_EXTRA_COMPATIBLE) !== 0,
  };
}

/** Bytes of a bitmap's entry in the directory. */
export function bitmapEntryLength({ name, extraLength }: Pick<BitmapEntry, 'name' | 'extraLength'>): number {
  return Math.ceil((FIXED + extraLength + Buffer.byteLength(name)) / 8) * 8;
}

/** The directory of these bitmaps, each with the extra data that its entry has. */
export function encodeDirectory(
  bitmaps: readonly (Omit<BitmapEntry, 'entryAt'> & { readonly extra: Uint8Array })[],
): Buffer {
  const parts = bitmaps.map((bitmap) => {
    const { name, extra, extraLength, granularity } = bitmap;
    const bytes = Buffer.alloc(bitmapEntryLength(bitmap));
    encodeBitmapState(bitmap).copy(bytes);
    bytes.writeUInt8(DIRTY_TRACKING, 16);
    bytes.writeUInt8(Math.log2(granularity), 17);
    bytes.writeUInt16BE(Buffer.byteLength(name), 18);
    bytes.writeUInt32BE(extraLength, 20);
    bytes.set(extra, FIXED);
    bytes.write(name, FIXED + extraLength);
    return bytes;
  });
  return Buffer.concat(parts);
}

/** The extra data of a bitmap, as the directory has it now. */
export async function readExtra(
  file: HostSource,
  { entryAt, extraLength }: Pick<BitmapEntry, 'entryAt' | 'extraLength'>,
): Promise<Uint8Array> {
  const extra = Buffer.alloc(extraLength);
  if (extraLength > 0) await readAt(file, extra, entryAt + FIXED);
  return extra;
}

/** The first 16 bytes of an entry of the directory: where the table is, and the flags. */
export function encodeBitmapState(
  bitmap: Pick<BitmapEntry, 'tableAt' | 'tableEntries' | 'inUse' | 'auto' | 'extraCompatible'>,
): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64BE(BigInt(bitmap.tableAt), 0);
  bytes.writeUInt32BE(bitmap.tableEntries, 8);
  const flags =
    (bitmap.inUse ? FLAG_IN_USE : 0) |
    (bitmap.auto ? FLAG_AUTO : 0) |
    (bitmap.extraCompatible ? FLAG_EXTRA_COMPATIBLE : 0);
  bytes.writeUInt32BE(flags, 12);
  return bytes;
}
