/**
 * The image header as bytes: whole, for a new image or a new backing file, and in patches.
 *
 * A change to a header in use is one write inside its first sector of 512 bytes, which a disk writes whole
 * or not at all: the `...Patch` functions say which bytes.
 *
 * Spec: qcow2.txt, "Header".
 */
import { DiskError } from '@strata/block';
import { encodeExtensions } from './extensions.ts';
import { KNOWN_AUTOCLEAR, MAGIC } from './format.ts';
import { type Header, KNOWN_LENGTH, V2_LENGTH } from './header.ts';

/**
 * The header, its extensions and the backing file's name as bytes for offset 0. The rest of the first
 * cluster must be zeros.
 *
 * @throws {DiskError} no-space if they do not fit in the first cluster
 */
export function encodeHeader(header: Header): Buffer {
  const fixed = Buffer.alloc(header.version === 2 ? V2_LENGTH : KNOWN_LENGTH);
  const extensions = encodeExtensions(header.extensions);
  const name = header.backingName ?? new Uint8Array(0);
  const nameAt = fixed.length + header.unknownFields.length + extensions.length;
  if (nameAt + name.length > 2 ** header.clusterBits)
    throw new DiskError('no-space', 'No space left in the file header', { offset: 0 });

  fixed.writeUInt32BE(MAGIC, 0);
  fixed.writeUInt32BE(header.version, 4);
  fixed.writeBigUInt64BE(BigInt(header.backingName === undefined ? 0 : nameAt), 8);
  fixed.writeUInt32BE(name.length, 16);
  fixed.writeUInt32BE(header.clusterBits, 20);
  fixed.writeUInt32BE(header.cryptMethod, 32);
  const patches = [
    sizePatch(header.size),
    l1Patch(header.l1Entries, header.l1At),
    refcountTablePatch(header.refcountTableAt, header.refcountTableClusters),
    snapshotsPatch(header.snapshotCount, header.snapshotsAt),
  ];
  if (header.version === 3) {
    patches.push(featuresPatch(header));
    fixed.writeUInt32BE(header.refcountOrder, 96);
    fixed.writeUInt32BE(KNOWN_LENGTH + header.unknownFields.length, 100);
    fixed[104] = header.compressionType;
  }
  for (const { offset, bytes } of patches) fixed.set(bytes, offset);
  return Buffer.concat([fixed, header.unknownFields, extensions, name]);
}

/** Bytes to write at an offset of the file; they lie inside one sector of 512 bytes. */
export interface HeaderPatch {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

const words = (offset: number, length: number, fill: (bytes: Buffer) => void): HeaderPatch => {
  const bytes = Buffer.alloc(length);
  fill(bytes);
  return { offset, bytes };
};

/** Changes the disk's size. */
export function sizePatch(size: number): HeaderPatch {
  return words(24, 8, (bytes) => bytes.writeBigUInt64BE(BigInt(size), 0));
}

/** Switches to another L1 table. */
export function l1Patch(entries: number, at: number): HeaderPatch {
  return words(36, 12, (bytes) => {
    bytes.writeUInt32BE(entries, 0);
    bytes.writeBigUInt64BE(BigInt(at), 4);
  });
}

/** Switches to another refcount table. */
export function refcountTablePatch(at: number, clusters: number): HeaderPatch {
  return words(48, 12, (bytes) => {
    bytes.writeBigUInt64BE(BigInt(at), 0);
    bytes.writeUInt32BE(clusters, 8);
  });
}

/** Switches to another snapshot table. */
export function snapshotsPatch(count: number, at: number): HeaderPatch {
  return words(60, 12, (bytes) => {
    bytes.writeUInt32BE(count, 0);
    bytes.writeBigUInt64BE(BigInt(at), 4);
  });
}

/** What a header leads to, all of which `structuresPatch` switches at once. */
export type HeaderStructures = Pick<
  Header,
  | 'version'
  | 'size'
  | 'l1Entries'
  | 'l1At'
  | 'refcountTableAt'
  | 'refcountTableClusters'
  | 'snapshotCount'
  | 'snapshotsAt'
>;

/**
 * Switches to other tables of all kinds at once. `sector` is the file's first one: fields between those of
 * the tables stay, and of the autoclear features those that we know.
 */
export function structuresPatch(next: HeaderStructures, sector: Uint8Array): HeaderPatch {
  const bytes = Buffer.from(sector.subarray(0, next.version === 3 ? 96 : 72));
  const patches = [
    sizePatch(next.size),
    l1Patch(next.l1Entries, next.l1At),
    refcountTablePatch(next.refcountTableAt, next.refcountTableClusters),
    snapshotsPatch(next.snapshotCount, next.snapshotsAt),
  ];
  for (const patch of patches) bytes.set(patch.bytes, patch.offset);
  if (next.version === 3) bytes.writeBigUInt64BE(bytes.readBigUInt64BE(88) & KNOWN_AUTOCLEAR, 88);
  return { offset: 24, bytes: bytes.subarray(24) };
}

/** Changes the feature bits, all three fields at once. For version 3 only: version 2 has none. */
export function featuresPatch(features: {
  readonly incompatible: bigint;
  readonly compatible: bigint;
  readonly autoclear: bigint;
}): HeaderPatch {
  return words(72, 24, (bytes) => {
    bytes.writeBigUInt64BE(features.incompatible, 0);
    bytes.writeBigUInt64BE(features.compatible, 8);
    bytes.writeBigUInt64BE(features.autoclear, 16);
  });
}
