/**
 * The file of bitmaps beside an image, as bytes: a header, the contents of the bitmaps, and a directory at the end.
 *
 *     0   8  "stratabm"                      32   8  bytes of the disk
 *     8   4  version, 1                      40   8  where the directory begins; it ends with the file
 *     12  4  flags: 1 = in use               48   4  bitmaps
 *     16  16 a random id of this state       52   4  CRC-32 of the directory      56  4  CRC-32 of bytes 0 to 55
 *
 * The directory is the stamp of the image and then the bitmaps: length (2 bytes) and text of the stamp; of a bitmap the
 * length of its name (2), granularity bits (1), flags (1; 1 = records, 2 = inconsistent), where its content begins (8),
 * how long it is (8), its CRC-32 (4) and the name. Content is runs of leaves of 4096 granules: a word of 8 bytes, the
 * kind in the top byte (0 clean, 1 dirty, 2 stored) and the number of leaves in the rest; behind stored ones 512 bytes
 * of bits for each, the first granule in the lowest bit. All numbers are little-endian.
 *
 * The file is always written as a whole and moved into its place, so no state of it is half of another. What is read
 * may be anybody's work: every length is judged before it is used.
 */
import { DiskError, type HostFile, type HostSource } from '@strata/block';
import { leafSize, type MemoryRoom } from './bit-tree.ts';
import { DirtyBitmap, largestGranularity, smallestGranularity } from './bitmap.ts';
import { longestBitmapName } from './store.ts';

const MAGIC = Buffer.from('stratabm');
const VERSION = 1;
const HEADER = 60;
const FIXED = 24;
const IN_USE = 1;
const ENABLED = 1;
const INCONSISTENT = 2;
const STORED = 2;
const leafBytes = leafSize / 8;
/** Loading them takes a tenth of a small command, and every command loads this file. */
const crypto = () => process.getBuiltinModule('node:crypto');
const crc32 = (bytes: Uint8Array, start?: number): number =>
  process.getBuiltinModule('node:zlib').crc32(bytes, start);

/** Bytes of memory that a stored leaf takes, about. */
const perLeaf = leafBytes * 1.5;
const PIECE = 1 << 20;

/** As many as an image of qcow2 can have, and bytes of their directory, which is read at once. */
export const mostSideBitmaps = 65_535;
const longestDirectory = 8 * 1024 * 1024;
const longestStamp = 1024;

/** Where the content of a bitmap is in the file that it was read from. */
export interface SideContent {
  readonly at: number;
  readonly length: number;
  readonly crc: number;
}

/** A bitmap of the file. */
export interface SideEntry {
  readonly name: string;
  readonly granularity: number;
  readonly enabled: boolean;
  readonly inconsistent: boolean;
  readonly content: SideContent;
}

/** What the file says but for the contents. */
export interface SideState {
  /** A random text: another one for each state that was ever written. */
  readonly id: string;
  /** Somebody has the image open and has changed it, or did not end properly. */
  readonly inUse: boolean;
  /** Bytes of the disk. */
  readonly size: number;
  /** Of the image, when it was closed. */
  readonly stamp: string;
  readonly entries: readonly SideEntry[];
}

/** A bitmap that is to be written: with what it says, or with what another such file has of it. */
export interface SideWriting extends Omit<SideEntry, 'content'> {
  readonly content: DirtyBitmap | { readonly from: HostSource; readonly content: SideContent } | undefined;
}

/** @throws {DiskError} corrupt, not-supported, io */
export async function readSideId(file: HostSource): Promise<string> {
  return idOf(await readHeader(file));
}

/** @throws {DiskError} corrupt, not-supported, limit, io */
export async function readSideState(file: HostSource): Promise<SideState> {
  const header = await readHeader(file);
  const size = Number(header.readBigUInt64LE(32));
  const at = Number(header.readBigUInt64LE(40));
  const count = header.readUInt32LE(48);
  const length = file.size - at;
  if (!Number.isSafeInteger(size) || at < HEADER || length < 0)
    throw corrupt('its header has a wrong number');
  if (length > longestDirectory || count > mostSideBitmaps) {
    const message = `the file of bitmaps has ${count} bitmaps in a directory of ${length} bytes, which is too much`;
    throw new DiskError('limit', message);
  }
  const directory = Buffer.allocUnsafe(length);
  await file.read(directory, at);
  if (crc32(directory) !== header.readUInt32LE(52)) throw corrupt('the checksum of its directory is wrong');
  const flags = header.readUInt32LE(12);
  const state = parseDirectory(directory, count, at);
  return { id: idOf(header), inUse: (flags & IN_USE) !== 0, size, ...state };
}

function parseDirectory(directory: Buffer, count: number, end: number): Pick<SideState, 'stamp' | 'entries'> {
  const short = (): DiskError => corrupt('its directory ends too early');
  if (directory.length < 2) throw short();
  let at = 2 + directory.readUInt16LE(0);
  if (at > directory.length || at > longestStamp) throw short();
  const stamp = directory.toString('utf8', 2, at);
  const entries: SideEntry[] = [];
  const names = new Set<string>();
  for (let index = 0; index < count; index++) {
    if (at + FIXED > directory.length) throw short();
    const nameLength = directory.readUInt16LE(at);
    const next = at + FIXED + nameLength;
    if (next > directory.length) throw short();
    const name = directory.toString('utf8', at + FIXED, next);
    const granularity = 2 ** directory.readUInt8(at + 2);
    const flags = directory.readUInt8(at + 3);
    const content = {
      at: u64(directory, at + 4),
      length: u64(directory, at + 12),
      crc: directory.readUInt32LE(at + 20),
    };
    const isName = nameLength > 0 && nameLength <= longestBitmapName && !name.includes('\0');
    if (!isName || names.has(name)) throw corrupt('a bitmap has a name that none can have');
    if (granularity < smallestGranularity || granularity > largestGranularity || flags > 3)
      throw corrupt(`what it says of bitmap '${name}' is wrong`);
    if (!(content.at >= HEADER && content.at + content.length <= end))
      throw corrupt(`bitmap '${name}' lies outside of it`);
    names.add(name);
    const state = { enabled: (flags & ENABLED) !== 0, inconsistent: (flags & INCONSISTENT) !== 0 };
    entries.push({ name, granularity, ...state, content });
    at = next;
  }
  if (at !== directory.length) throw corrupt('its directory is too long');
  return { stamp, entries };
}

/**
 * The content of a bitmap of a disk of `size` bytes.
 *
 * @throws {DiskError} corrupt, limit, io
 */
export async function readSideBitmap(
  file: HostSource,
  { name, granularity, content }: SideEntry,
  size: number,
  room: MemoryRoom,
): Promise<DirtyBitmap> {
  const bitmap = new DirtyBitmap(size, granularity, room);
  const wrong = (): DiskError => corrupt(`the content of bitmap '${name}' is wrong`);
  const leaves = Math.ceil(Math.ceil(size / granularity) / leafSize);
  const reach = leafSize * granularity;
  if (content.length > 8 * (leaves + 1) + leafBytes * leaves) throw wrong();
  const reader = new PieceReader(file, content);
  let leaf = 0;
  try {
    while (!reader.atEnd) {
      const word = (await reader.take(8)).readBigUInt64LE();
      const kind = Number(word >> 56n);
      const count = Number(word & ((1n << 56n) - 1n));
      if (count === 0 || leaf + count > leaves || kind > STORED) throw wrong();
      if (kind === 1) bitmap.set(leaf * reach, Math.min(count * reach, size - leaf * reach));
      if (kind === STORED && count * perLeaf > room.left) {
        throw new DiskError('limit', 'the bitmaps of this image take more memory than they may');
      }
      for (let index = 0; kind === STORED && index < count; index++)
        bitmap.importBits((leaf + index) * leafSize, await reader.take(leafBytes));
      leaf += count;
    }
    if (leaf !== leaves || reader.crc !== content.crc) throw wrong();
    return bitmap;
  } catch (error) {
    bitmap.clearAll();
    throw error;
  }
}

/** Writes `state` with the contents of `bitmaps` to an empty file. Resolves to what is written. */
export async function writeSideFile(
  file: HostFile,
  { inUse, size, stamp }: Pick<SideState, 'inUse' | 'size' | 'stamp'>,
  bitmaps: readonly SideWriting[],
): Promise<SideState> {
  const out = new PieceWriter(file, HEADER);
  const entries: SideEntry[] = [];
  for (const bitmap of bitmaps) {
    const at = out.offset;
    out.crc = 0;
    if (bitmap.content instanceof DirtyBitmap) await writeBitmap(out, bitmap.content);
    else if (bitmap.content !== undefined)
      await copyContent(out, bitmap.content.from, bitmap.content.content);
    entries.push({ ...bitmap, content: { at, length: out.offset - at, crc: out.crc } });
  }
  const directoryAt = out.offset;
  out.crc = 0;
  await out.put(encodeText(stamp));
  for (const entry of entries) await out.put(encodeEntry(entry));
  if (out.offset - directoryAt > longestDirectory)
    throw new DiskError('limit', 'Not enough space in the bitmap directory');
  const header = Buffer.alloc(HEADER);
  MAGIC.copy(header);
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(inUse ? IN_USE : 0, 12);
  crypto().randomBytes(16).copy(header, 16);
  header.writeBigUInt64LE(BigInt(size), 32);
  header.writeBigUInt64LE(BigInt(directoryAt), 40);
  header.writeUInt32LE(entries.length, 48);
  header.writeUInt32LE(out.crc, 52);
  header.writeUInt32LE(crc32(header.subarray(0, 56)), 56);
  await out.end();
  await file.write(header, 0);
  return { id: idOf(header), inUse, size, stamp, entries };
}

async function writeBitmap(out: PieceWriter, bitmap: DirtyBitmap): Promise<void> {
  const leaf = Buffer.alloc(leafBytes);
  const word = Buffer.alloc(8);
  for (const { first, leaves, content } of bitmap.leafRuns()) {
    const kind = typeof content === 'number' ? content : STORED;
    word.writeBigUInt64LE((BigInt(kind) << 56n) | BigInt(leaves));
    await out.put(word);
    if (kind !== STORED) continue;
    bitmap.exportBits(first, leaf);
    await out.put(leaf);
  }
}

async function copyContent(out: PieceWriter, from: HostSource, content: SideContent): Promise<void> {
  const reader = new PieceReader(from, content);
  while (!reader.atEnd) await out.put(await reader.take(Math.min(reader.left, 65_536)));
  if (reader.crc !== content.crc) throw corrupt('the content of a bitmap is wrong');
}

function encodeText(text: string): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16LE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}

function encodeEntry({ name, granularity, enabled, inconsistent, content }: SideEntry): Buffer {
  const fixed = Buffer.alloc(FIXED);
  fixed.writeUInt16LE(Buffer.byteLength(name), 0);
  fixed.writeUInt8(Math.log2(granularity), 2);
  fixed.writeUInt8((enabled ? ENABLED : 0) | (inconsistent ? INCONSISTENT : 0), 3);
  fixed.writeBigUInt64LE(BigInt(content.at), 4);
  fixed.writeBigUInt64LE(BigInt(content.length), 12);
  fixed.writeUInt32LE(content.crc, 20);
  return Buffer.concat([fixed, Buffer.from(name)]);
}

async function readHeader(file: HostSource): Promise<Buffer> {
  const header = Buffer.alloc(HEADER);
  await file.read(header, 0);
  if (!header.subarray(0, 8).equals(MAGIC)) throw corrupt('it is none');
  if (crc32(header.subarray(0, 56)) !== header.readUInt32LE(56))
    throw corrupt('the checksum of its header is wrong');
  if (header.readUInt32LE(8) !== VERSION) {
    const message = `the file of bitmaps has version ${header.readUInt32LE(8)}, and only ${VERSION} is known`;
    throw new DiskError('not-supported', message);
  }
  return header;
}

/** Past 2^53 it is not exact, and past the end of any file. */
const u64 = (bytes: Buffer, at: number): number =>
  bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;

const idOf = (header: Buffer): string => header.toString('hex', 16, 32);

function corrupt(why: string): DiskError {
  return new DiskError('corrupt', `the file of bitmaps beside the image ('.bitmaps') is not sound: ${why}`);
}

/** Reads a range from its start to its end. */
class PieceReader {
  readonly #file: HostSource;
  readonly #end: number;
  #offset: number;
  #piece: Buffer = Buffer.alloc(0);
  /** Of all that was taken. */
  crc = 0;

  constructor(file: HostSource, { at, length }: SideContent) {
    this.#file = file;
    this.#offset = at;
    this.#end = at + length;
  }

  get left(): number {
    return this.#end - this.#offset + this.#piece.length;
  }

  get atEnd(): boolean {
    return this.left === 0;
  }

  /** The next bytes; they are valid until the next call. */
  async take(length: number): Promise<Buffer> {
    if (length > this.left) throw corrupt('the content of a bitmap ends too early');
    if (length > this.#piece.length) {
      const more = Buffer.allocUnsafe(Math.min(PIECE, this.#end - this.#offset));
      await this.#file.read(more, this.#offset);
      this.#offset += more.length;
      this.#piece = Buffer.concat([this.#piece, more]);
    }
    const taken = this.#piece.subarray(0, length);
    this.#piece = this.#piece.subarray(length);
    this.crc = crc32(taken, this.crc);
    return taken;
  }
}

/** Writes a file from an offset on, in large pieces. */
class PieceWriter {
  readonly #file: HostFile;
  #written: number;
  #used = 0;
  readonly #piece = Buffer.allocUnsafe(PIECE);
  /** Of all that was put since it was set to 0. */
  crc = 0;

  constructor(file: HostFile, offset: number) {
    this.#file = file;
    this.#written = offset;
  }

  get offset(): number {
    return this.#written + this.#used;
  }

  /** At most 65,536 bytes. */
  async put(bytes: Buffer): Promise<void> {
    if (this.#used + bytes.length > PIECE) await this.end();
    this.#used += bytes.copy(this.#piece, this.#used);
    this.crc = crc32(bytes, this.crc);
  }

  async end(): Promise<void> {
    await this.#file.write(this.#piece.subarray(0, this.#used), this.#written);
    this.#written += this.#used;
    this.#used = 0;
  }
}
