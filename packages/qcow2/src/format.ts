/**
 * The numbers of the qcow2 format: how an image is known, its feature bits, and the limits we share with QEMU.
 *
 * A limit is checked before anything is allocated or read for what it bounds. Where the specification leaves
 * a size open, QEMU's limit is ours, so that neither opens what the other refuses.
 *
 * Spec: qcow2.txt, "Header".
 */

/** `QFI\xfb`, the first four bytes. */
export const MAGIC = 0x514649fb;

/** Clusters of 512 bytes to 2 MiB. */
export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;

/** Refcounts of 2^0 to 2^6 bits. */
export const MAX_REFCOUNT_ORDER = 6;
/** Version 2 knows this width only: 16 bits. */
export const VERSION_2_REFCOUNT_ORDER = 4;

/** Bytes of an L1 table; QEMU's limit. */
export const MAX_L1_BYTES = 32 * 1024 * 1024;
/** Bytes of the refcount table; QEMU's limit. */
export const MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024;

/** Bytes of a backing file's name. */
export const MAX_BACKING_NAME = 1023;

/** Snapshots of one image, bytes of their table, bytes of extra data in one entry; QEMU's limits. */
export const MAX_SNAPSHOTS = 65_536;
export const MAX_SNAPSHOT_TABLE_BYTES = 1024 * MAX_SNAPSHOTS;
export const MAX_SNAPSHOT_EXTRA = 1024;

/** Bitmaps of one image, bytes of their directory and of a name; QEMU's limits. */
export const MAX_BITMAPS = 65_535;
export const MAX_BITMAP_DIRECTORY_BYTES = 1024 * MAX_BITMAPS;
export const MAX_BITMAP_NAME = 1023;
/** Entries of one bitmap's table, and bytes of its data; QEMU's limits. */
export const MAX_BITMAP_TABLE_ENTRIES = 0x800_0000;
export const MAX_BITMAP_BYTES = 0x2000_0000;
/** A bit of a bitmap stands for 2^9 to 2^31 bytes; QEMU's limits. */
export const MIN_BITMAP_GRANULARITY_BITS = 9;
export const MAX_BITMAP_GRANULARITY_BITS = 31;

/** Incompatible features: who does not know one must not open the image. */
export const Incompatible = {
  /** The refcounts may be stale. */
  dirty: 1n << 0n,
  /** Any structure may be damaged; the image must not be written. */
  corrupt: 1n << 1n,
  /** Guest data lies in another file. */
  dataFile: 1n << 2n,
  /** The header names the compression. */
  compression: 1n << 3n,
  /** L2 entries are 16 bytes and describe 32 subclusters. */
  extendedL2: 1n << 4n,
} as const;

/** All incompatible features that this package can name. */
export const KNOWN_INCOMPATIBLE = 0x1fn;

/** Compatible features: who does not know one may ignore it. */
export const Compatible = {
  /** A writer may leave the refcounts stale while the dirty bit is set. */
  lazyRefcounts: 1n << 0n,
} as const;

/** Autoclear features: who does not know one clears it before the first write. */
export const Autoclear = {
  /** The bitmaps extension is valid. */
  bitmaps: 1n << 0n,
  /** The external data file alone is a raw image of the disk. */
  rawData: 1n << 1n,
} as const;

/** All autoclear features that this package can name. */
export const KNOWN_AUTOCLEAR = 0x3n;

/** The values of the header's `crypt_method`. */
export const Encryption = { none: 0, aes: 1, luks: 2 } as const;

/** The values of the header's `compression_type`. */
export const Compression = { zlib: 0, zstd: 1 } as const;

/** True if the first bytes of a file are those of a qcow2 image, of whatever version. */
export function isQcow2(head: Uint8Array): boolean {
  if (head.length < 8) return false;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return view.getUint32(0) === MAGIC && view.getUint32(4) >= 2;
}
