/**
 * The sentences of findings: qemu-img's, which scripts match on, and ours where it has none.
 *
 * They are functions, so that a finding that is only counted costs no text. Words of tables come as halves.
 */
import { offsetHigh, offsetLow, wordDigits } from '../entries.ts';

/** Makes a finding's text of what was found. */
export type Sentence<Values extends readonly unknown[]> = (...values: Values) => string;

const offsetDigits = (high: number, low: number): string => wordDigits(offsetHigh(high), offsetLow(low));

/** The sentences, each a function of what it tells. */
export const say = {
  /** Needs no values. */
  plain: (text: string): string => text,

  /** What is wrong with references. */
  outsideFile: (high: number, low: number, length: number): string =>
    `ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x${wordDigits(high, low)} size 0x${length.toString(16)}`,

  overflow: (at: number): string =>
    `ERROR: overflow cluster offset=0x${at.toString(16)}\nUse qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy if the image cannot be opened for writing`,

  /** What is wrong with refcounts. */
  tooLow: (cluster: number, refcount: string, references: number): string =>
    `ERROR cluster ${cluster} refcount=${refcount} reference=${references}`,

  leaked: (cluster: number, refcount: string, references: number): string =>
    `Leaked cluster ${cluster} refcount=${refcount} reference=${references}`,

  unreadableRefcount: (cluster: number): string =>
    `Can't get refcount for cluster ${cluster}: Input/output error`,

  reservedInRefcountTable: (index: number): string =>
    `ERROR refcount table entry ${index} has reserved bits set`,

  unalignedBlock: (index: number): string =>
    `ERROR refcount block ${index} is not cluster aligned; refcount table entry corrupted`,

  blockOutside: (index: number): string => `ERROR refcount block ${index} is outside image`,

  sharedBlock: (index: number, references: number): string =>
    `ERROR refcount block ${index} refcount=${references}`,

  cannotUseBlock: (why: string, index: number): string =>
    `qcow2: Image is corrupt: ${why} (reftable index: ${index === 0 ? '0' : `0x${index.toString(16)}`}); further non-fatal corruption events will be suppressed`,

  /** What is wrong with L1 entries. */
  reservedInL1: (high: number, low: number): string =>
    `ERROR found L1 entry with reserved bits set: ${wordDigits(high, low)}`,

  unalignedL2: (high: number, low: number): string =>
    `ERROR l2_offset=${offsetDigits(high, low)}: Table is not cluster aligned; L1 entry corrupted`,

  unreadableL1: (): string => 'ERROR: I/O error in check_refcounts_l1',

  flagOfL2: (index: number, high: number, low: number, refcount: string): string =>
    `ERROR OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${wordDigits(high, low)} refcount=${refcount}`,

  /** What is wrong with L2 entries. */
  reservedInL2: (high: number, low: number): string =>
    `ERROR found l2 entry with reserved bits set: ${wordDigits(high, low)}`,

  unalignedCluster: (high: number, low: number, what: 'Data' | 'Preallocated'): string =>
    `ERROR offset=${offsetDigits(high, low)}: ${what} cluster is not properly aligned; L2 entry corrupted.`,

  brokenSubclusters: (high: number, low: number): string =>
    `ERROR offset=${offsetDigits(high, low)}: Allocated cluster has corrupted subcluster allocation bitmap`,

  subclustersOfNothing: (): string => 'ERROR: Unallocated cluster has non-zero subcluster allocation map',

  flagOfCompressed: (high: number, low: number): string =>
    `ERROR: coffset=0x${wordDigits(high, low)}: copied flag must never be set for compressed clusters`,

  compressedIn: (index: number, where: string, high: number, low: number): string =>
    `ERROR compressed cluster ${index} with ${where}, entry=0x${wordDigits((high & 0x7fff_ffff) >>> 0, low)}`,

  flagOfCluster: (high: number, low: number, refcount: string): string =>
    `ERROR OFLAG_COPIED data cluster: l2_entry=${wordDigits(high, low)} refcount=${refcount}`,

  /** What is wrong with snapshots and bitmaps. */
  unreadableSnapshots: (why: string): string => `ERROR failed to read the snapshot table: ${why}`,

  tooManySnapshots: (over: number): string =>
    `You can force-remove all ${over} overhanging snapshots with qemu-img check -r all`,

  shortSnapshotEntry: (index: number): string => `ERROR snapshot table entry ${index} is incomplete`,

  snapshotsWithDataFile: (count: number): string => `ERROR ${count} snapshots in image with data file`,

  brokenSnapshot: (id: string, name: string, what: string): string =>
    `ERROR snapshot ${id} (${name}) ${what}; snapshot table entry corrupted`,

  brokenBitmapTable: (name: string): string => `ERROR bitmap '${name}': its table is broken`,
} as const;
