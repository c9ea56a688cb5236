/**
 * The image header: parsed and judged before anything else of an image is read.
 *
 * Every rule is checked in QEMU's order and told in its words, so that a script that matches on one tool's
 * message matches on the other's. A header that parses may still ask for a feature that this version does
 * not read or write: features.ts says so.
 *
 * Spec: qcow2.txt, "Header".
 */
import { type BackingReference, DiskError, type HostSource } from '@strata/block';
import { bytesAt, type Extensions, featureName, parseExtensions, textOf } from './extensions.ts';
import {
  Compression,
  Encryption,
  Incompatible,
  KNOWN_INCOMPATIBLE,
  MAGIC,
  MAX_BACKING_NAME,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_REFCOUNT_ORDER,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_CLUSTER_BITS,
  VERSION_2_REFCOUNT_ORDER,
} from './format.ts';
import { type GeometryFields, geometryOf, type HostOffset, hostOffset } from './geometry.ts';
import { readAt } from './table-reader.ts';

/** Bytes of a version 2 header. */
export const V2_LENGTH = 72;
const V3_MIN_LENGTH = 104;
/** Bytes of a version 3 header that we know; what a longer header holds is kept as it is. */
export const KNOWN_LENGTH = 112;
const SPEC = 'qcow2.txt, "Header"';

/** A valid header, decoded. */
export interface Header extends GeometryFields {
  /** Bytes the guest sees: whole sectors of 512 bytes, as QEMU sees it. */
  readonly size: number;
  readonly cryptMethod: number;
  readonly l1Entries: number;
  readonly l1At: HostOffset;
  readonly refcountTableAt: HostOffset;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsAt: HostOffset;
  readonly compatible: bigint;
  readonly autoclear: bigint;
  /** Bytes of the fixed header: 72 in version 2, 104 or more in version 3. */
  readonly headerLength: number;
  readonly compressionType: number;
  /** The bytes of the fixed header past those we know. */
  readonly unknownFields: Uint8Array;
  readonly extensions: Extensions;
  /** The backing file's name as recorded; `backingOf` reads it. */
  readonly backingName: Uint8Array | undefined;
}

/** How strict `parseHeader` is. */
export interface ParseOptions {
  /**
   * For `check`: a missing refcount table, a broken snapshot table and tables that lie far behind the end of
   * the file are findings, not refusals. Offsets past 2^53 are rounded then.
   */
  readonly forCheck?: boolean;
}

/**
 * Reads and judges the header of an image: the first 4 KiB, and as much of the first cluster as it needs.
 *
 * @throws {DiskError} corrupt, limit, not-supported
 */
export async function readHeader(file: HostSource, options: ParseOptions = {}): Promise<Header> {
  const head = Buffer.alloc(Math.min(4096, Math.max(file.size, KNOWN_LENGTH)));
  await readAt(file, head, 0);
  const clusterBits = head.readUInt32BE(20);
  const cluster = clusterBits <= MAX_CLUSTER_BITS ? Math.min(2 ** clusterBits, file.size) : 0;
  if (head.readUInt32BE(0) !== MAGIC || cluster <= head.length || fitsIn(head))
    return parseHeader(head, options);
  const whole = Buffer.alloc(cluster);
  await readAt(file, whole, 0);
  return parseHeader(whole, options);
}

/** True if the extensions and the backing file's name surely lie within `head`. */
function fitsIn(head: Buffer): boolean {
  const nameAt = head.readBigUInt64BE(8);
  if (nameAt !== 0n) return nameAt + BigInt(head.readUInt32BE(16)) <= BigInt(head.length);
  let at = head.readUInt32BE(4) === 2 ? V2_LENGTH : head.readUInt32BE(100);
  while (at + 8 <= head.length) {
    if (head.readUInt32BE(at) === 0) return true;
    at += 8 + Math.ceil(head.readUInt32BE(at + 4) / 8) * 8;
  }
  return false;
}

/**
 * The header in `bytes`: the first cluster of the file, or as much of it as the header and the backing
 * file's name take; what is missing counts as zeros. The result holds no views of `bytes`.
 *
 * @throws {DiskError} corrupt, limit, not-supported
 */
export function parseHeader(bytes: Uint8Array, options: ParseOptions = {}): Header {
  const whole = bytes.length < KNOWN_LENGTH ? bytesAt(bytes, 0, KNOWN_LENGTH) : bytes;
  const head = Buffer.from(whole.buffer, whole.byteOffset, whole.byteLength);

  if (head.readUInt32BE(0) !== MAGIC) throw corrupt('Image is not in qcow2 format', 0);
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3)
    throw new DiskError('not-supported', `Unsupported qcow2 version ${version}`, { offset: 4, spec: SPEC });
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    throw limit(`Unsupported cluster size: 2^${clusterBits}`, 20);
  const clusterSize = 2 ** clusterBits;

  const features = version === 2 ? version2Fields : version3Fields(head);
  const { headerLength, compressionType, incompatible, autoclear } = features;
  if (headerLength > clusterSize) throw corrupt('qcow2 header exceeds cluster size', 100);
  const nameAt = head.readBigUInt64BE(8);
  if (nameAt > BigInt(clusterSize)) throw corrupt('Invalid backing file offset', 8);
  const extensionsEnd = nameAt === 0n ? clusterSize : Number(nameAt);
  const cryptMethod = head.readUInt32BE(32);
  const context = { clusterSize, cryptMethod, autoclear };
  checkCompression(compressionType, incompatible);
  if ((incompatible & ~KNOWN_INCOMPATIBLE) !== 0n)
    throw unknownFeatures(incompatible, () => parseExtensions(head, headerLength, extensionsEnd, context));
  if ((incompatible & Incompatible.extendedL2) !== 0n && clusterSize / 32 < 512)
    throw corrupt(`Unsupported subcluster size: ${clusterSize / 32}`, 20);
  if (features.refcountOrder > MAX_REFCOUNT_ORDER)
    throw corrupt('Reference count entry width too large; may not exceed 64 bits', 96);

  const fields = { version, clusterBits, ...features } as const;
  const tables = parseTables(head, fields, options);
  if (cryptMethod > Encryption.luks)
    throw new DiskError('not-supported', `Unsupported encryption method ${cryptMethod | 0}`, { offset: 32 });
  const extensions = parseExtensions(head, headerLength, extensionsEnd, context);
  return {
    ...fields,
    ...tables,
    cryptMethod,
    unknownFields: bytesAt(head, KNOWN_LENGTH, Math.max(0, headerLength - KNOWN_LENGTH)),
    extensions,
    backingName: parseBackingName(head, Number(nameAt), clusterSize),
  };
}

const corrupt = (message: string, offset: number): DiskError =>
  new DiskError('corrupt', message, { offset, spec: SPEC });
const limit = (message: string, offset: number): DiskError =>
  new DiskError('limit', message, { offset, spec: SPEC });

const version2Fields = {
  incompatible: 0n,
  compatible: 0n,
  autoclear: 0n,
  refcountOrder: VERSION_2_REFCOUNT_ORDER,
  headerLength: V2_LENGTH,
  compressionType: Compression.zlib as number,
};

function version3Fields(head: Buffer): typeof version2Fields {
  const headerLength = head.readUInt32BE(100);
  if (headerLength < V3_MIN_LENGTH) throw corrupt('qcow2 header too short', 100);
  return {
    incompatible: head.readBigUInt64BE(72),
    compatible: head.readBigUInt64BE(80),
    autoclear: head.readBigUInt64BE(88),
    refcountOrder: head.readUInt32BE(96),
    headerLength,
    compressionType: headerLength > 104 ? (head[104] ?? 0) : Compression.zlib,
  };
}

function checkCompression(type: number, incompatible: bigint): void {
  if (type > Compression.zstd)
    throw new DiskError('not-supported', `qcow2: unknown compression type: ${type}`, { offset: 104 });
  const flagged = (incompatible & Incompatible.compression) !== 0n;
  if (flagged === (type !== Compression.zlib)) return;
  const not = flagged ? 'not ' : '';
  throw corrupt(`qcow2: Compression type incompatible feature bit must ${not}be set`, 72);
}

function unknownFeatures(incompatible: bigint, extensions: () => Extensions): DiskError {
  let table: Uint8Array | undefined;
  try {
    table = extensions().featureNames;
  } catch {
    // The names are a courtesy: extensions too broken to be read name nothing.
  }
  const names: string[] = [];
  let rest = incompatible & ~KNOWN_INCOMPATIBLE;
  for (let bit = 0; bit < 64; bit++) {
    const name = (rest >> BigInt(bit)) & 1n ? featureName(table, 0, bit) : undefined;
    if (name === undefined) continue;
    names.push(name);
    rest &= ~(1n << BigInt(bit));
  }
  if (rest !== 0n) names.push(`Unknown incompatible feature: ${rest.toString(16)}`);
  const message = `Unsupported qcow2 feature(s): ${names.join(', ')}`;
  return new DiskError('not-supported', message, { offset: 72, spec: SPEC });
}

type Tables = Pick<
  Header,
  | 'size'
  | 'l1Entries'
  | 'l1At'
  | 'refcountTableAt'
  | 'refcountTableClusters'
  | 'snapshotCount'
  | 'snapshotsAt'
>;

function parseTables(head: Buffer, fields: GeometryFields, options: ParseOptions): Tables {
  const geometry = geometryOf(fields);
  const table = (name: string, field: number, bytes: number, maxBytes: number): HostOffset => {
    if (bytes > maxBytes) throw limit(`${name} too large`, field);
    const at = head.readBigUInt64BE(field);
    const end = at + BigInt(bytes);
    if (at % BigInt(geometry.clusterSize) !== 0n || end >= 2n ** 63n)
      throw corrupt(`${name} offset invalid`, field);
    if (end > BigInt(Number.MAX_SAFE_INTEGER) && options.forCheck !== true)
      throw limit(`${name} offset is past 2^53`, field);
    return hostOffset(Number(at));
  };
  const refcountTableClusters = head.readUInt32BE(56);
  const l1Entries = head.readUInt32BE(36);
  const snapshotCount = head.readUInt32BE(60);
  if (refcountTableClusters === 0 && options.forCheck !== true)
    throw corrupt('Image does not contain a reference count table', 56);
  const refcountBytes = refcountTableClusters * geometry.clusterSize;
  const refcountTableAt = table('Reference count table', 48, refcountBytes, MAX_REFCOUNT_TABLE_BYTES);
  const snapshotsAt =
    options.forCheck === true
      ? hostOffset(Number(head.readBigUInt64BE(64)))
      : table('Snapshot table', 64, snapshotCount * 40, MAX_SNAPSHOTS * 40);
  const l1At = table('Active L1 table', 40, l1Entries * 8, MAX_L1_BYTES);

  const size = head.readBigUInt64BE(24);
  const needed = (size + BigInt(geometry.l2Reach) - 1n) / BigInt(geometry.l2Reach);
  if (needed > 0x7fff_ffffn || size > BigInt(Number.MAX_SAFE_INTEGER)) throw limit('Image is too big', 24);
  if (BigInt(l1Entries) < needed) throw corrupt('L1 table is too small', 36);
  return {
    size: Number(size - (size % 512n)),
    l1Entries,
    l1At,
    refcountTableAt,
    refcountTableClusters,
    snapshotCount,
    snapshotsAt,
  };
}

function parseBackingName(head: Buffer, nameAt: number, clusterSize: number): Uint8Array | undefined {
  if (nameAt === 0) return undefined;
  const length = head.readUInt32BE(16);
  if (length > Math.min(MAX_BACKING_NAME, clusterSize - nameAt))
    throw corrupt('Backing file name too long', 16);
  return bytesAt(head, nameAt, length);
}

/** What the image says of the image under it; undefined if it stands alone. */
export function backingOf(header: Header): BackingReference | undefined {
  const name = header.backingName === undefined ? '' : textOf(header.backingName);
  return name === '' ? undefined : { name, format: header.extensions.backingFormat };
}
