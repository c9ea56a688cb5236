/**
 * An L2 entry with the state of each of its subclusters: one shape for standard and for extended entries.
 *
 * With extended entries a guest cluster has 32 subclusters; without them it is its own only subcluster, and
 * bit 0 of the two maps says what the entry says. So whoever changes an image reckons in subclusters and need
 * not know which entries it has. The hot paths do not come here: they read standard entries word by word
 * (`clusterKind`), and extended ones in mapping-subclusters.ts.
 *
 * Bits of the maps are numbered as the subclusters are; a map of 32 bits is an unsigned number.
 *
 * Spec: qcow2.txt, "Extended L2 Entries".
 */
import {
  ClusterKind,
  clusterKind,
  entryHigh,
  entryLow,
  entryOffset,
  isCompressed,
  setEntry,
  whyCorrupt,
} from './entries.ts';
import type { Geometry, HostOffset } from './geometry.ts';

/** What an entry's first word leads to. */
export const EntryForm = {
  /** No host cluster. */
  empty: 0,
  /** A host cluster, in which each subcluster has its place, whatever its state. */
  placed: 1,
  compressed: 2,
  corrupt: 3,
} as const;
export type EntryForm = (typeof EntryForm)[keyof typeof EntryForm];

/** An L2 entry. */
export interface L2Entry {
  readonly form: EntryForm;
  /** The first word. */
  readonly high: number;
  readonly low: number;
  /** Subclusters that read as zeros. 0 for compressed clusters. */
  readonly zeros: number;
  /** Subclusters whose bytes lie in the host cluster. 0 for compressed clusters; no bit of `zeros` is set here. */
  readonly allocated: number;
}

/** The entry of a cluster that no table describes. */
export const NO_ENTRY: L2Entry = Object.freeze({
  form: EntryForm.empty,
  high: 0,
  low: 0,
  zeros: 0,
  allocated: 0,
});

/** The state of one subcluster. */
export const SubclusterState = {
  /** What is below shows. */
  unallocated: 0,
  data: 1,
  zero: 2,
  compressed: 3,
} as const;
export type SubclusterState = (typeof SubclusterState)[keyof typeof SubclusterState];

/** The map in which the bits from `first` up to `end` (exclusive) are set. */
export function subclusterMask(first: number, end: number): number {
  return first >= end ? 0 : (2 ** end - 2 ** first) >>> 0;
}

/** The map of all subclusters of a cluster. */
export function allSubclusters(geometry: Geometry): number {
  return subclusterMask(0, geometry.subclusters);
}

/** The entry `index` of an L2 table. */
export function readL2Entry(geometry: Geometry, table: DataView, index: number): L2Entry {
  const high = entryHigh(table, index * geometry.l2Words);
  const low = entryLow(table, index * geometry.l2Words);
  if (geometry.subclusters === 1) return standardEntry(geometry, high, low);
  if (isCompressed(high)) {
    const isSound = clusterKind(geometry, high, low) === ClusterKind.compressed;
    return { form: isSound ? EntryForm.compressed : EntryForm.corrupt, high, low, zeros: 0, allocated: 0 };
  }
  const zeros = entryHigh(table, index * 2 + 1);
  const allocated = entryLow(table, index * 2 + 1);
  return { form: extendedForm(geometry, high, low, zeros, allocated), high, low, zeros, allocated };
}

function standardEntry(geometry: Geometry, high: number, low: number): L2Entry {
  switch (clusterKind(geometry, high, low)) {
    case ClusterKind.unallocated:
      return { form: EntryForm.empty, high, low, zeros: 0, allocated: 0 };
    case ClusterKind.data:
      return { form: EntryForm.placed, high, low, zeros: 0, allocated: 1 };
    case ClusterKind.zero:
      return { form: EntryForm.empty, high, low, zeros: 1, allocated: 0 };
    case ClusterKind.zeroAllocated:
      return { form: EntryForm.placed, high, low, zeros: 1, allocated: 0 };
    case ClusterKind.compressed:
      return { form: EntryForm.compressed, high, low, zeros: 0, allocated: 0 };
    case ClusterKind.corrupt:
      return { form: EntryForm.corrupt, high, low, zeros: 0, allocated: 0 };
  }
}

/** The form of an extended entry that is not compressed. */
function extendedForm(
  geometry: Geometry,
  high: number,
  low: number,
  zeros: number,
  allocated: number,
): typeof EntryForm.empty | typeof EntryForm.placed | typeof EntryForm.corrupt {
  // Bit 0 means nothing here; as a standard entry's it would say that the cluster is zeros.
  switch (clusterKind(geometry, high, low & ~1)) {
    case ClusterKind.unallocated:
      return allocated === 0 ? EntryForm.empty : EntryForm.corrupt;
    case ClusterKind.data:
      return (zeros & allocated) === 0 ? EntryForm.placed : EntryForm.corrupt;
    default:
      return EntryForm.corrupt;
  }
}

/** Stores an entry; `form` follows from the rest. In a standard one the lowest bit of `low` is that of `zeros`, unless it is compressed. */
export function storeL2Entry(
  geometry: Geometry,
  table: DataView,
  index: number,
  { high, low, zeros, allocated }: Omit<L2Entry, 'form'>,
): void {
  if (geometry.subclusters === 1) {
    setEntry(table, index, high, isCompressed(high) ? low : ((low & ~1) | zeros) >>> 0);
    return;
  }
  setEntry(table, index * 2, high, low);
  setEntry(table, index * 2 + 1, zeros, allocated);
}

/** Why an entry of the form `corrupt` is that, in QEMU's words. */
export function whyCorruptEntry(geometry: Geometry, table: DataView, index: number): string {
  const high = entryHigh(table, index * geometry.l2Words);
  const low = entryLow(table, index * geometry.l2Words);
  if (geometry.subclusters === 1) return whyCorrupt(geometry, high, low);
  const first = isCompressed(high) ? low : low & ~1;
  const isFirstWord = clusterKind(geometry, high, first) === ClusterKind.corrupt;
  return isFirstWord ? whyCorrupt(geometry, high, first) : 'Invalid cluster entry found ';
}

/** Where the host cluster of an entry of the form `placed` is. */
export function placeOf({ high, low }: L2Entry): HostOffset {
  return entryOffset(high, low);
}

/** The state of the subcluster number `index`; not asked of corrupt entries. */
export function subclusterState({ form, zeros, allocated }: L2Entry, index: number): SubclusterState {
  if (form === EntryForm.compressed) return SubclusterState.compressed;
  if ((zeros >>> index) & 1) return SubclusterState.zero;
  return (allocated >>> index) & 1 ? SubclusterState.data : SubclusterState.unallocated;
}

/** How many subclusters from `index` on, up to `end`, are in one state. */
export function subclusterRun({ zeros, allocated }: L2Entry, index: number, end: number): number {
  const zero = (zeros >>> index) & 1;
  const data = (allocated >>> index) & 1;
  let next = index + 1;
  while (next < end && ((zeros >>> next) & 1) === zero && ((allocated >>> next) & 1) === data) next++;
  return next - index;
}

/** The number of the lowest bit that is set; 32 if none is. */
export function lowestSubcluster(map: number): number {
  return map === 0 ? 32 : 31 - Math.clz32(map & -map);
}

/** One more than the number of the highest bit that is set; 0 if none is. */
export function endOfSubclusters(map: number): number {
  return 32 - Math.clz32(map);
}
