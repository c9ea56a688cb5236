/**
 * The entries of the tables on disk: big-endian words there, plain numbers and tagged unions here.
 *
 * The only file of the package that knows which bit is where. Nothing here throws: a reader turns `corrupt`
 * into an error, `check` turns it into a finding. A word is handled as two halves of 32 bits, `high` (bits
 * 32-63) and `low` (bits 0-31), because a BigInt for each entry costs several times as much. There are two
 * ways in: `describe...` gives a union to switch on, and `clusterKind`, `entryOffset` and `isExclusive`
 * answer without allocating, for scans over runs of entries.
 *
 * Host offsets may have 56 bits on disk, numbers have 53: an offset past 2^53 - 1 is `corrupt`, for no file
 * is that long. Reserved bits do not make an entry corrupt; QEMU reads such entries and only its check
 * reports them, and so do we (`reservedBits...`).
 *
 * Spec: qcow2.txt, "Cluster mapping" and "Host cluster management"; bits are numbered as there.
 */
import type { Geometry, HostOffset } from './geometry.ts';
import { hostOffset } from './geometry.ts';

const WORD = 2 ** 32;
const HIGH_EXCLUSIVE = 0x8000_0000; // bit 63
const HIGH_COMPRESSED = 0x4000_0000; // bit 62
const HIGH_OFFSET = 0x00ff_ffff; // bits 32-55
const HIGH_OFFSET_TOO_LARGE = 0x00e0_0000; // bits 53-55: past 2^53
const HIGH_L1_RESERVED = 0x7f00_0000; // bits 56-62
const HIGH_L2_RESERVED = 0x3f00_0000; // bits 56-61
const HIGH_BITMAP_RESERVED = 0xff00_0000; // bits 56-63
const LOW_OFFSET = 0xffff_fe00; // bits 9-31
const LOW_RESERVED = 0x0000_01ff; // bits 0-8
const LOW_ZERO = 0x0000_0001; // bit 0

/** The entries of a table that lies in `bytes`: a view, not a copy. */
export function tableOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Bits 32-63 of the 8-byte entry `index`. */
export function entryHigh(table: DataView, index: number): number {
  return table.getUint32(index * 8);
}

/** Bits 0-31 of the 8-byte entry `index`. */
export function entryLow(table: DataView, index: number): number {
  return table.getUint32(index * 8 + 4);
}

/** Stores the 8-byte entry `index`. The halves come from an `encode...` or from another entry. */
export function setEntry(table: DataView, index: number, high: number, low: number): void {
  table.setUint32(index * 8, high);
  table.setUint32(index * 8 + 4, low);
}

/** The host offset of an L1 entry or a standard L2 entry (bits 9-55); 0: none. Exact up to 2^53 - 1. */
export function entryOffset(high: number, low: number): HostOffset {
  return hostOffset((high & HIGH_OFFSET) * WORD + ((low & LOW_OFFSET) >>> 0));
}

/** Bit 63: the table or cluster is ours alone (refcount 1), and may be overwritten in place. */
export function isExclusive(high: number): boolean {
  return (high & HIGH_EXCLUSIVE) !== 0;
}

/** The high half of a word with or without the `exclusive` bit, and otherwise as it is. */
export function withExclusive(high: number, exclusive: boolean): number {
  return (exclusive ? high | HIGH_EXCLUSIVE : high & ~HIGH_EXCLUSIVE) >>> 0;
}

/** The high half of a word that leads to `at`. */
export function encodeHigh(at: number, exclusive: boolean): number {
  return (Math.floor(at / WORD) | (exclusive ? HIGH_EXCLUSIVE : 0)) >>> 0;
}

/** The low half of a word that leads to `at`, of a compressed cluster too. */
export function encodeLow(at: number): number {
  return at >>> 0;
}

/** The 64-bit word of two halves in hexadecimal digits. */
export function wordDigits(high: number, low: number): string {
  return ((BigInt(high) << 32n) | BigInt(low)).toString(16);
}

const hex = (high: number, low: number): string => `0x${wordDigits(high, low)}`;

/** True if an offset of bits 9 and up is not a multiple of the cluster size. */
export function isUnaligned(geometry: Geometry, low: number): boolean {
  return (low & (geometry.clusterSize - 512)) !== 0;
}

/** Bits 32-55 of the offset of an L1, standard L2 or bitmap table entry. */
export function offsetHigh(high: number): number {
  return high & HIGH_OFFSET;
}

/** Bits 9-31 of an offset, in their places. */
export function offsetLow(low: number): number {
  return (low & LOW_OFFSET) >>> 0;
}

function offsetProblem(geometry: Geometry, high: number, low: number): string | undefined {
  const shown = (): string => hex(offsetHigh(high), offsetLow(low));
  if (isUnaligned(geometry, low)) return `offset ${shown()} unaligned`;
  if ((high & HIGH_OFFSET_TOO_LARGE) !== 0) return `offset ${shown()} is past 2^53`;
  return undefined;
}

/** What an L1 entry says. */
export type L1Entry =
  | { readonly kind: 'unallocated' }
  | { readonly kind: 'table'; readonly at: HostOffset; readonly exclusive: boolean }
  | { readonly kind: 'corrupt'; readonly why: string };

/** An L1 entry as a union. */
export function describeL1(geometry: Geometry, high: number, low: number): L1Entry {
  const at = entryOffset(high, low);
  if (at === 0) return { kind: 'unallocated' };
  const problem = offsetProblem(geometry, high, low);
  if (problem !== undefined) return { kind: 'corrupt', why: `L2 table ${problem}` };
  return { kind: 'table', at, exclusive: isExclusive(high) };
}

/** True if bits of an L1 entry are set that the specification reserves. */
export function reservedBitsInL1(high: number, low: number): boolean {
  return (high & HIGH_L1_RESERVED) !== 0 || (low & LOW_RESERVED) !== 0;
}

/** The kinds of an L2 entry as small numbers, for loops that must not allocate. */
export const ClusterKind = {
  unallocated: 0,
  data: 1,
  /** Zeros without a host cluster. */
  zero: 2,
  /** Zeros with a host cluster in reserve. */
  zeroAllocated: 3,
  compressed: 4,
  corrupt: 5,
} as const;
export type ClusterKind = (typeof ClusterKind)[keyof typeof ClusterKind];

/**
 * The kind of a (standard size) L2 entry. `corrupt` covers all that must not be read. In an external data file
 * offset 0 is a place like any other, and bit 63 says that it is meant.
 */
export function clusterKind(geometry: Geometry, high: number, low: number): ClusterKind {
  if ((high & HIGH_COMPRESSED) !== 0) {
    // Offset bits from 53 on stand below bit x, the first of the sector count.
    const isSound = (high & compressedTooLarge(geometry)) === 0 && !geometry.externalData;
    return isSound ? ClusterKind.compressed : ClusterKind.corrupt;
  }
  const allocated = (high & HIGH_OFFSET) !== 0 || (low & LOW_OFFSET) !== 0;
  const zero = (low & LOW_ZERO) !== 0;
  if (zero && geometry.version < 3) return ClusterKind.corrupt;
  if (!allocated) {
    if (zero) return ClusterKind.zero;
    return geometry.externalData && isExclusive(high) ? ClusterKind.data : ClusterKind.unallocated;
  }
  if (isUnaligned(geometry, low) || (high & HIGH_OFFSET_TOO_LARGE) !== 0) return ClusterKind.corrupt;
  return zero ? ClusterKind.zeroAllocated : ClusterKind.data;
}

/** What an L2 entry says of its guest cluster. */
export type Cluster =
  | { readonly kind: 'unallocated' }
  | { readonly kind: 'data'; readonly at: HostOffset; readonly exclusive: boolean }
  | { readonly kind: 'zero'; readonly at: HostOffset | undefined; readonly exclusive: boolean }
  | { readonly kind: 'compressed'; readonly at: HostOffset; readonly maxLength: number }
  | { readonly kind: 'corrupt'; readonly why: string };

/** A (standard size) L2 entry as a union. */
export function describeCluster(geometry: Geometry, high: number, low: number): Cluster {
  switch (clusterKind(geometry, high, low)) {
    case ClusterKind.unallocated:
      return { kind: 'unallocated' };
    case ClusterKind.data:
      return { kind: 'data', at: entryOffset(high, low), exclusive: isExclusive(high) };
    case ClusterKind.zero:
      return { kind: 'zero', at: undefined, exclusive: false };
    case ClusterKind.zeroAllocated:
      return { kind: 'zero', at: entryOffset(high, low), exclusive: isExclusive(high) };
    case ClusterKind.compressed: {
      const at = compressedAt(geometry, high, low);
      return { kind: 'compressed', at, maxLength: compressedMaxLength(geometry, high, low) };
    }
    case ClusterKind.corrupt:
      return { kind: 'corrupt', why: whyCorrupt(geometry, high, low) };
  }
}

/** Why `clusterKind` called an L2 entry corrupt; QEMU's words where it has them. */
export function whyCorrupt(geometry: Geometry, high: number, low: number): string {
  if ((high & HIGH_COMPRESSED) !== 0) {
    if (geometry.externalData) return 'Compressed cluster entry found in image with external data file';
    return 'Compressed cluster offset is past 2^53';
  }
  const zero = (low & LOW_ZERO) !== 0;
  if (zero && geometry.version < 3) return 'Zero cluster entry found in pre-v3 image';
  const what = zero ? 'Preallocated zero cluster' : 'Cluster allocation';
  return `${what} ${offsetProblem(geometry, high, low) ?? 'is sound'}`;
}

/** True if bits of a standard L2 entry are set that the specification reserves. */
export function reservedBitsInL2(high: number, low: number): boolean {
  return (high & HIGH_L2_RESERVED) !== 0 || (low & LOW_RESERVED & ~LOW_ZERO) !== 0;
}

// Compressed descriptor, x = 62 - (clusterBits - 8): offset in bits 0 to x-1, sectors - 1 in bits x to 61.
// x is 61 at 512-byte clusters and 49 at 2 MiB, so it always splits the high half.
/** True if bit 62 says that the cluster is compressed. */
export function isCompressed(high: number): boolean {
  return (high & HIGH_COMPRESSED) !== 0;
}

/** True if bit 0 says that the cluster reads as zeros; not asked of extended entries. */
export function isZero(low: number): boolean {
  return (low & LOW_ZERO) !== 0;
}

const sectorsShift = (geometry: Geometry): number => 62 - 32 - (geometry.clusterBits - 8);

function compressedTooLarge(geometry: Geometry): number {
  const offsetBits = (1 << sectorsShift(geometry)) - 1;
  return offsetBits & ~0x001f_ffff;
}

/** Where a compressed cluster's bytes start. Not aligned to anything. Exact up to 2^53 - 1. */
export function compressedAt(geometry: Geometry, high: number, low: number): HostOffset {
  return hostOffset(compressedHigh(geometry, high) * WORD + low);
}

/** Bits 32 and up of a compressed cluster's offset. */
export function compressedHigh(geometry: Geometry, high: number): number {
  return high & ((1 << sectorsShift(geometry)) - 1);
}

/** The most bytes that a compressed cluster's data may take: up to the end of its last 512-byte sector. */
export function compressedMaxLength(geometry: Geometry, high: number, low: number): number {
  const moreSectors = (high & (HIGH_COMPRESSED - 1)) >>> sectorsShift(geometry);
  return (moreSectors + 1) * 512 - (low & 511);
}

/** The first offset that a compressed cluster may not start at any more. */
export function compressedEnd(geometry: Geometry): number {
  return 2 ** Math.min(56, 62 - (geometry.clusterBits - 8));
}

/** The high half of a compressed cluster's entry. `at + length` stays below `compressedEnd`. */
export function encodeCompressedHigh(geometry: Geometry, at: number, length: number): number {
  const moreSectors = Math.floor((at + length - 1) / 512) - Math.floor(at / 512);
  const sectors = moreSectors << sectorsShift(geometry);
  return (HIGH_COMPRESSED + sectors + Math.floor(at / WORD)) >>> 0;
}

/** The entry of a guest cluster that reads as zeros: its low half. The high half is `encodeHigh(at, exclusive)`. */
export function encodeZeroLow(at: number): number {
  return (at | LOW_ZERO) >>> 0;
}

/** What a refcount table entry says. */
export type RefcountTableEntry =
  | { readonly kind: 'absent' }
  | { readonly kind: 'block'; readonly at: HostOffset }
  | { readonly kind: 'corrupt'; readonly why: string };

/** A refcount table entry as a union. Its offset has all of the bits 9-63. */
export function describeRefcountTable(geometry: Geometry, high: number, low: number): RefcountTableEntry {
  const lowOffset = offsetLow(low);
  if (high === 0 && lowOffset === 0) return { kind: 'absent' };
  const shown = (): string => hex(high, lowOffset);
  if (isUnaligned(geometry, low)) return { kind: 'corrupt', why: `Refblock offset ${shown()} unaligned` };
  if (high >= 2 ** 21) return { kind: 'corrupt', why: `Refblock offset ${shown()} is past 2^53` };
  return { kind: 'block', at: hostOffset(high * WORD + lowOffset) };
}

/** True if bits of a refcount table entry are set that the specification reserves. */
export function reservedBitsInRefcountTable(low: number): boolean {
  return (low & LOW_RESERVED) !== 0;
}

/**
 * The refcount `index` of a block. Widths below a byte are packed from the least significant bit on. A
 * refcount above 2^53 - 1 is Infinity, which compares as it should and which nothing can be added to.
 */
export function readRefcount(block: DataView, index: number, refcountOrder: number): number {
  switch (refcountOrder) {
    case 3:
      return block.getUint8(index);
    case 4:
      return block.getUint16(index * 2);
    case 5:
      return block.getUint32(index * 4);
    case 6: {
      const high = entryHigh(block, index);
      return high < 2 ** 21 ? high * WORD + entryLow(block, index) : Number.POSITIVE_INFINITY;
    }
    default: {
      const bit = index << refcountOrder;
      return (block.getUint8(bit >>> 3) >>> (bit & 7)) & ((1 << (1 << refcountOrder)) - 1);
    }
  }
}

/** Stores the refcount `index` of a block. `value` fits the width. */
export function writeRefcount(block: DataView, index: number, refcountOrder: number, value: number): void {
  switch (refcountOrder) {
    case 3:
      block.setUint8(index, value);
      break;
    case 4:
      block.setUint16(index * 2, value);
      break;
    case 5:
      block.setUint32(index * 4, value);
      break;
    case 6:
      setEntry(block, index, Math.floor(value / WORD), value >>> 0);
      break;
    default: {
      const bit = index << refcountOrder;
      const mask = ((1 << (1 << refcountOrder)) - 1) << (bit & 7);
      block.setUint8(bit >>> 3, (block.getUint8(bit >>> 3) & ~mask) | (value << (bit & 7)));
    }
  }
}

/** What a bitmap table entry says. */
export type BitmapTableEntry =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'ones' }
  | { readonly kind: 'stored'; readonly at: HostOffset }
  | { readonly kind: 'corrupt'; readonly why: string };

/** True if QEMU refuses the bitmap table entry: reserved bits, an offset with the all-ones bit, or unaligned. */
export function isBrokenBitmapEntry(geometry: Geometry, high: number, low: number): boolean {
  if ((high & HIGH_BITMAP_RESERVED) !== 0 || (low & LOW_RESERVED & ~LOW_ZERO) !== 0) return true;
  const allocated = (high & HIGH_OFFSET) !== 0 || (low & LOW_OFFSET) !== 0;
  return allocated && ((low & LOW_ZERO) !== 0 || isUnaligned(geometry, low));
}

/** A bitmap table entry as a union. */
export function describeBitmapTable(geometry: Geometry, high: number, low: number): BitmapTableEntry {
  if (isBrokenBitmapEntry(geometry, high, low))
    return { kind: 'corrupt', why: `Bitmap table entry ${hex(high, low)} breaks the format` };
  if ((high & HIGH_OFFSET_TOO_LARGE) !== 0)
    return { kind: 'corrupt', why: `Bitmap table entry ${hex(high, low)} is past 2^53` };
  const at = entryOffset(high, low);
  if (at !== 0) return { kind: 'stored', at };
  return { kind: (low & LOW_ZERO) === 0 ? 'zeros' : 'ones' };
}
