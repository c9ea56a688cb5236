/**
 * From a guest offset to where its bytes lie: the walk over the standard entries of one L2 table.
 *
 * Pure: the table is in memory, nothing waits, and only the answer is allocated. A whole run comes back as
 * one answer: clusters of one kind that follow each other, in the file too where they have a place there.
 *
 * Spec: qcow2.txt, "Cluster mapping".
 */
import type { DiskError, HostSource, Mapping } from '@strata/block';
import { damage } from './damage.ts';
import { ClusterKind, clusterKind, describeL1, entryHigh, entryLow, entryOffset } from './entries.ts';
import type { Geometry } from './geometry.ts';
import { readL2Entry, whyCorruptEntry } from './l2-entry.ts';
import type { ClusterTable, TableEntry, TableKind } from './tables.ts';

/** Where mapped bytes are, and what an answer says of them. */
export interface MappingContext {
  readonly geometry: Geometry;
  readonly file: HostSource;
  /** For `Mapping.sparse`. */
  readonly sparse: boolean;
}

/**
 * Maps `offset`, which `table` describes, and as much of what follows as is alike, to at most `limit` bytes
 * and the table's end. Undefined if the entry is corrupt: `corruptEntry` says how.
 */
export function mapIn(
  context: MappingContext,
  table: ClusterTable,
  offset: number,
  limit: number,
): Mapping | undefined {
  const { geometry } = context;
  const { clusterSize, l2Entries } = geometry;
  const cluster = Math.floor(offset / clusterSize);
  const within = offset - cluster * clusterSize;
  const index = cluster - Math.floor(cluster / l2Entries) * l2Entries;
  const high = entryHigh(table.view, index);
  const low = entryLow(table.view, index);
  const kind = clusterKind(geometry, high, low);
  const wanted = Math.min(l2Entries, index + Math.ceil((within + limit) / clusterSize));
  switch (kind) {
    case ClusterKind.data: {
      const at = entryOffset(high, low);
      const length = runLength(geometry, table, index, wanted, kind, at) * clusterSize - within;
      const { file: device, sparse } = context;
      return { kind: 'raw', length: Math.min(length, limit), device, at: at + within, sparse };
    }
    case ClusterKind.zeroAllocated: {
      const at = entryOffset(high, low);
      const length = runLength(geometry, table, index, wanted, kind, at) * clusterSize - within;
      return { kind: 'zero', length: Math.min(length, limit), at: at + within };
    }
    case ClusterKind.corrupt:
      return undefined;
    default: {
      const length = runLength(geometry, table, index, wanted, kind, undefined) * clusterSize - within;
      return answerWithoutPlace(kind, Math.min(length, limit));
    }
  }
}

function answerWithoutPlace(
  kind: typeof ClusterKind.unallocated | typeof ClusterKind.zero | typeof ClusterKind.compressed,
  length: number,
): Mapping {
  if (kind === ClusterKind.unallocated) return { kind: 'below', length };
  if (kind === ClusterKind.zero) return { kind: 'zero', length, at: undefined };
  return { kind: 'encoded', length };
}

/**
 * How many clusters from `index` on, up to the index `end`, are of this kind and, if `at` is given, follow
 * each other in the file.
 */
function runLength(
  geometry: Geometry,
  table: ClusterTable,
  index: number,
  end: number,
  kind: ClusterKind,
  at: number | undefined,
): number {
  const { view } = table;
  let next = index + 1;
  for (; next < end; next++) {
    const high = entryHigh(view, next);
    const low = entryLow(view, next);
    if (clusterKind(geometry, high, low) !== kind) break;
    if (at !== undefined && entryOffset(high, low) !== at + (next - index) * geometry.clusterSize) break;
  }
  return next - index;
}

/** The error for a corrupt entry of an L2 table. */
export function corruptEntry(geometry: Geometry, table: ClusterTable, index: number): DiskError {
  return entryError(geometry, table, index, whyCorruptEntry(geometry, table.view, index));
}

/** The error for an entry that leads elsewhere than to its guest offset, `guestAt`, in a data file. */
export function misplacedEntry(
  geometry: Geometry,
  table: ClusterTable,
  index: number,
  guestAt: number,
): DiskError {
  const { high, low } = readL2Entry(geometry, table.view, index);
  const places = `0x${entryOffset(high, low).toString(16)} does not match guest cluster offset: 0x${guestAt.toString(16)}`;
  const message = `External data file host cluster offset ${places}, L2 index: ${shownIndex(index)})`;
  return tableError(geometry, table, index, message);
}

function entryError(geometry: Geometry, table: ClusterTable, index: number, why: string): DiskError {
  const where = `(L2 offset: 0x${table.at.toString(16)}, L2 index: ${shownIndex(index)})`;
  return tableError(geometry, table, index, `${why} ${where}`);
}

/** As C prints `%#x`. */
const shownIndex = (index: number): string => (index === 0 ? '0' : `0x${index.toString(16)}`);

function tableError(geometry: Geometry, table: ClusterTable, index: number, message: string): DiskError {
  const offset = table.at + index * geometry.l2EntrySize;
  return damage(geometry, message, offset, 'qcow2.txt, "Cluster mapping"');
}

/** L2 tables, as the active L1 table leads to them. `cacheBytes` bounds the clean ones in memory. */
export function l2Tables(geometry: Geometry, cacheBytes: number): TableKind {
  return {
    describe: (high, low, index): TableEntry => {
      const entry = describeL1(geometry, high, low);
      if (entry.kind === 'table') return entry;
      if (entry.kind === 'unallocated') return { kind: 'none' };
      return { kind: 'corrupt', why: `${entry.why} (L1 index: 0x${index.toString(16)})` };
    },
    spec: 'qcow2.txt, "Cluster mapping"',
    cacheBytes,
    exclusiveBit: true,
  };
}
