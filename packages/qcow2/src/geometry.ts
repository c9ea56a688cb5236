/**
 * The numbers that follow from an image's cluster size and refcount width, and the arithmetic on offsets.
 *
 * Offsets reach to 2^53, so nothing here shifts: `>>` would cut them to 32 bits. All divisors are powers of
 * two, for which `Math.floor(a / b)` is exact and a remainder is cheaper by subtraction than by `%`.
 *
 * Spec: qcow2.txt, "Cluster mapping" and "Host cluster management".
 */
import { Incompatible } from './format.ts';

declare const host: unique symbol;
/** Bytes from the start of the image file. A guest offset, which is a plain number, is not taken for one. */
export type HostOffset = number & { readonly [host]: true };

/** Says of a number that it is a host offset. */
export const hostOffset = (offset: number): HostOffset => offset as HostOffset;

/** What follows from the header for all arithmetic. */
export interface Geometry {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Bytes of an L2 entry: 8, or 16 with extended L2 entries. */
  readonly l2EntrySize: 8 | 16;
  /** Words of 8 bytes of an L2 entry. */
  readonly l2Words: 1 | 2;
  /** Parts of a guest cluster that have a state of their own: with extended L2 entries 32, otherwise the one. */
  readonly subclusters: 1 | 32;
  readonly subclusterSize: number;
  /** The guest's data lies in another file, at its guest offset; nothing counts its clusters. */
  readonly externalData: boolean;
  /** Entries of an L2 table, which is one cluster. */
  readonly l2Entries: number;
  /** Guest bytes that one L2 table describes. */
  readonly l2Reach: number;
  /** The width of a refcount is 2^refcountOrder bits. */
  readonly refcountOrder: number;
  readonly refcountBits: number;
  /** The largest refcount that can be written; at most 2^53 - 1. */
  readonly refcountMax: number;
  /** Refcounts of a refcount block, which is one cluster. */
  readonly refcountBlockEntries: number;
  /** Host bytes that one refcount block describes. */
  readonly refcountBlockReach: number;
  /** Entries of a table of 8-byte words in one cluster: of the L1, refcount and bitmap tables. */
  readonly wordsPerCluster: number;
}

/** The part of a header that decides. */
export interface GeometryFields {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly refcountOrder: number;
  readonly incompatible: bigint;
}

/** The numbers of an image with a valid header. */
export function geometryOf(header: GeometryFields): Geometry {
  const clusterSize = 2 ** header.clusterBits;
  const isExtended = (header.incompatible & Incompatible.extendedL2) !== 0n;
  const l2EntrySize = isExtended ? 16 : 8;
  const subclusters = isExtended ? 32 : 1;
  const l2Entries = clusterSize / l2EntrySize;
  const refcountBits = 2 ** header.refcountOrder;
  const refcountBlockEntries = (clusterSize * 8) / refcountBits;
  return Object.freeze({
    version: header.version,
    clusterBits: header.clusterBits,
    clusterSize,
    l2EntrySize,
    l2Words: isExtended ? 2 : 1,
    subclusters,
    subclusterSize: clusterSize / subclusters,
    externalData: (header.incompatible & Incompatible.dataFile) !== 0n,
    l2Entries,
    l2Reach: l2Entries * clusterSize,
    refcountOrder: header.refcountOrder,
    refcountBits,
    refcountMax: refcountBits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1,
    refcountBlockEntries,
    refcountBlockReach: refcountBlockEntries * clusterSize,
    wordsPerCluster: clusterSize / 8,
  });
}

/** The number of the cluster that holds `offset`, guest's or host's. */
export function clusterIndexOf(geometry: Geometry, offset: number): number {
  return Math.floor(offset / geometry.clusterSize);
}

/** Clusters that `bytes` take. */
export function clustersFor(geometry: Geometry, bytes: number): number {
  return Math.ceil(bytes / geometry.clusterSize);
}

/** L1 entries that a disk of `size` bytes needs. */
export function l1EntriesFor(geometry: Geometry, size: number): number {
  return Math.ceil(size / geometry.l2Reach);
}

/** The refcount table's entry for the host cluster `clusterIndex`. */
export function refcountTableIndexOf(geometry: Geometry, clusterIndex: number): number {
  return Math.floor(clusterIndex / geometry.refcountBlockEntries);
}

/** The entry for the host cluster `clusterIndex` in its refcount block. */
export function refcountBlockIndexOf(geometry: Geometry, clusterIndex: number): number {
  const entries = geometry.refcountBlockEntries;
  return clusterIndex - Math.floor(clusterIndex / entries) * entries;
}
