/**
 * The refcounts on disk, as a check sees them: read, and compared with the references that were counted.
 *
 * Spec: qcow2.txt, "Host cluster management".
 */
import type { HostFile, HostSource } from '@strata/block';
import {
  describeRefcountTable,
  entryHigh,
  entryLow,
  isUnaligned,
  readRefcount,
  reservedBitsInRefcountTable,
  tableOf,
  writeRefcount,
} from '../entries.ts';
import { type Geometry, refcountBlockIndexOf, refcountTableIndexOf } from '../geometry.ts';
import type { Header } from '../header.ts';
import { forEachWord, readAt } from '../table-reader.ts';
import type { Findings } from './findings.ts';
import { say } from './sentences.ts';
import type { CheckState, MetadataBudget } from './state.ts';

/** Bytes of refcount blocks that are kept in memory. */
const CACHE_BYTES = 32 * 1024 * 1024;

/** A sector is what a disk writes whole or not at all. */
const SECTOR = 512;

/** A refcount block; undefined: there is none and all its refcounts are 0; `unreadable`: there is no telling. */
type Block = DataView | undefined | 'unreadable';

/** The refcounts that the image records. */
export class RefcountsOnDisk {
  readonly #file: HostSource;
  readonly #header: Header;
  readonly #geometry: Geometry;
  readonly #findings: Findings;
  readonly #budget: MetadataBudget;
  /** Blocks by their offset in the file, the latest used last. */
  readonly #blocks = new Map<number, DataView>();
  #table: DataView | undefined;
  #currentIndex = -1;
  /** The first cluster that the current block describes. */
  #currentFirst = Number.NaN;
  #current: Block;
  #signaled = false;

  constructor(
    file: HostSource,
    header: Header,
    geometry: Geometry,
    findings: Findings,
    budget: MetadataBudget,
  ) {
    this.#file = file;
    this.#header = header;
    this.#geometry = geometry;
    this.#findings = findings;
    this.#budget = budget;
  }

  /** The refcount table, as far as it lies in the file. */
  async table(): Promise<DataView> {
    if (this.#table !== undefined) return this.#table;
    const { refcountTableAt, refcountTableClusters } = this.#header;
    const length = refcountTableClusters * this.#geometry.clusterSize;
    const given = Math.max(0, Math.min(length, this.#file.size - refcountTableAt));
    const bytes = Buffer.alloc(Math.ceil(given / 8) * 8);
    this.#budget.spend(bytes.length);
    await readAt(this.#file, bytes, refcountTableAt);
    this.#table = tableOf(bytes);
    return this.#table;
  }

  /** The block that describes the clusters from `tableIndex * refcountBlockEntries` on. */
  async block(tableIndex: number): Promise<Block> {
    if (tableIndex !== this.#currentIndex) {
      this.#current = await this.#load(tableIndex);
      this.#currentIndex = tableIndex;
      this.#currentFirst = tableIndex * this.#geometry.refcountBlockEntries;
    }
    return this.#current;
  }

  async #load(tableIndex: number): Promise<Block> {
    const table = await this.table();
    if (tableIndex >= table.byteLength / 8) return undefined;
    const [high, low] = [entryHigh(table, tableIndex), entryLow(table, tableIndex)];
    const entry = describeRefcountTable(this.#geometry, high, low);
    if (entry.kind === 'absent') return undefined;
    if (entry.kind === 'corrupt') {
      if (isUnaligned(this.#geometry, low)) return this.#unaligned(tableIndex, entry.why);
      // QEMU reads zeros up to 2^63, however far behind the end of the file that is.
      return high < 2 ** 31 ? undefined : 'unreadable';
    }
    const held = this.#blocks.get(entry.at);
    if (held !== undefined) {
      this.#blocks.delete(entry.at);
      this.#blocks.set(entry.at, held);
      return held;
    }
    if (entry.at >= this.#file.size) return undefined;
    const bytes = Buffer.alloc(this.#geometry.clusterSize);
    this.#budget.spend(bytes.length);
    await readAt(this.#file, bytes, entry.at);
    const block = tableOf(bytes);
    this.#blocks.set(entry.at, block);
    const [oldest] = this.#blocks.keys();
    if (oldest !== undefined && this.#blocks.size * bytes.length > CACHE_BYTES) this.#blocks.delete(oldest);
    return block;
  }

  #unaligned(tableIndex: number, why: string): Block {
    if (!this.#signaled) this.#findings.note(say.cannotUseBlock, why, tableIndex);
    this.#signaled = true;
    return 'unreadable';
  }

  /** Where the block that was used last is in the file. */
  get placeOfCurrent(): number | undefined {
    const table = this.#table;
    if (table === undefined || !(this.#current instanceof DataView)) return undefined;
    const [high, low] = [entryHigh(table, this.#currentIndex), entryLow(table, this.#currentIndex)];
    const entry = describeRefcountTable(this.#geometry, high, low);
    return entry.kind === 'block' ? entry.at : undefined;
  }

  /** The refcount of a cluster, if its block is the one that was used last; undefined otherwise. */
  tryRefcount(clusterIndex: number): number | undefined {
    const index = clusterIndex - this.#currentFirst;
    if (!(index >= 0 && index < this.#geometry.refcountBlockEntries)) return undefined;
    const block = this.#current;
    if (block === undefined) return 0;
    if (block === 'unreadable') return Number.NaN;
    return readRefcount(block, index, this.#geometry.refcountOrder);
  }

  /** The refcount of a cluster; NaN if it cannot be read. */
  async refcount(clusterIndex: number): Promise<number> {
    await this.block(refcountTableIndexOf(this.#geometry, clusterIndex));
    return this.tryRefcount(clusterIndex) ?? Number.NaN;
  }

  /** The refcount of a cluster of the current block as text, exact above 2^53 as well. */
  shown(clusterIndex: number): string {
    const refcount = this.tryRefcount(clusterIndex) ?? Number.NaN;
    if (refcount !== Number.POSITIVE_INFINITY || !(this.#current instanceof DataView)) return `${refcount}`;
    const index = refcountBlockIndexOf(this.#geometry, clusterIndex);
    return this.#current.getBigUint64(index * 8).toString();
  }
}

/** Counts the refcount blocks themselves, and judges the table that leads to them. */
export async function countRefcountBlocks(state: CheckState): Promise<void> {
  const { file, header, geometry, references, findings, budget } = state;
  const { clusterSize } = geometry;
  const visit = (high: number, low: number, index: number): void => {
    if (high === 0 && low === 0) return;
    const cluster = (high * 2 ** 32 + low) / clusterSize;
    if (reservedBitsInRefcountTable(low)) {
      state.needsRebuild = true;
      findings.corruption(1, say.reservedInRefcountTable, index);
    } else if (isUnaligned(geometry, low)) {
      state.needsRebuild = true;
      findings.corruption(1, say.unalignedBlock, index);
    } else if (cluster >= references.clusters) {
      state.needsRebuild = true;
      findings.corruption(1, say.blockOutside, index);
    } else {
      references.count(cluster * clusterSize, clusterSize);
      const count = references.of(cluster);
      if (count === 1) return;
      state.needsRebuild = true;
      findings.corruption(1, say.sharedBlock, index, count);
    }
  };
  const entries = header.refcountTableClusters * geometry.wordsPerCluster;
  await forEachWord(file, header.refcountTableAt, entries, (bytes) => budget.spend(bytes), visit);
}

/** What `repairRefcounts` puts right, in the blocks of a file. */
export interface RefcountRepair {
  readonly file: HostFile;
  /** Refcounts that are too low too, and not only those that are too high. */
  readonly corruptions: boolean;
}

/**
 * Puts refcounts right where they are, and counts what is left. Only for images that need no rebuild: every
 * block is there, is alone in its cluster, and has a refcount above 0 wherever it is wrong.
 */
export async function repairRefcounts(state: CheckState, repair: RefcountRepair): Promise<void> {
  const { geometry, references, refcounts, findings } = state;
  const { refcountBlockEntries, refcountOrder } = geometry;
  for (let first = 0; first < references.clusters; first += refcountBlockEntries) {
    const block = await refcounts.block(first / refcountBlockEntries);
    if (block === undefined) continue;
    const sectors = new Set<number>();
    const end = Math.min(references.clusters, first + refcountBlockEntries);
    for (let cluster = first; cluster < end; cluster++) {
      if (block === 'unreadable') {
        findings.error(say.unreadableRefcount, cluster);
        continue;
      }
      const refcount = readRefcount(block, cluster - first, refcountOrder);
      const counted = references.of(cluster);
      if (refcount === counted) continue;
      const shown = refcounts.shown(cluster);
      const isLeak = refcount > counted;
      if (isLeak || repair.corruptions) {
        writeRefcount(block, cluster - first, refcountOrder, counted);
        sectors.add(Math.floor(((cluster - first) * geometry.refcountBits) / 8 / SECTOR));
        findings.repaired(
          isLeak ? 'leak' : 'corruption',
          isLeak ? say.leaked : say.tooLow,
          cluster,
          shown,
          counted,
        );
      } else {
        findings.corruption(1, say.tooLow, cluster, shown, counted);
      }
    }
    const at = refcounts.placeOfCurrent;
    if (!(block instanceof DataView) || at === undefined) continue;
    for (const sector of sectors) {
      const bytes = new Uint8Array(block.buffer, block.byteOffset + sector * SECTOR, SECTOR);
      await repair.file.write(bytes, at + sector * SECTOR);
    }
  }
  await repair.file.flush();
}

/** Compares all refcounts with all references; the number of the last cluster that has either. */
export async function compareRefcounts(state: CheckState): Promise<number> {
  const { geometry, references, refcounts, findings } = state;
  const { refcountBlockEntries, refcountOrder } = geometry;
  const end = references.clusters;
  let last = 0;
  for (let first = 0; first < end; first += refcountBlockEntries) {
    const tableIndex = first / refcountBlockEntries;
    const blockEnd = Math.min(end, first + refcountBlockEntries);
    const block = await refcounts.block(tableIndex);
    if (block === undefined && references.nextUsed(first, blockEnd) === blockEnd) continue;
    for (let cluster = first; cluster < blockEnd; cluster++) {
      if (block === 'unreadable') {
        findings.error(say.unreadableRefcount, cluster);
        continue;
      }
      const refcount = block === undefined ? 0 : readRefcount(block, cluster - first, refcountOrder);
      const counted = references.of(cluster);
      if (refcount > 0 || counted > 0) last = cluster;
      if (refcount === counted) continue;
      const shown = refcounts.shown(cluster);
      if (refcount === 0) state.needsRebuild = true;
      if (refcount < counted) findings.corruption(1, say.tooLow, cluster, shown, counted);
      else findings.leak(say.leaked, cluster, shown, counted);
    }
  }
  return last;
}
