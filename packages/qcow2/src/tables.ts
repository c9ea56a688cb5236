/**
 * Tables of one cluster each, reached through a table of words: L2 tables by the L1 table, refcount blocks
 * by the refcount table. They are known by their index in that table, which saves decoding its entry.
 *
 * Clean tables live in a cache of bounded size. A changed one is held outside of it until a barrier has
 * written it, because the file does not have its content yet; only the bytes that changed are written. What
 * a barrier writes is a copy: the table may change again while the write is under way, and such a change
 * must not reach the disk before what it refers to.
 */
import type { HostSource } from '@strata/block';
import { LRUCache } from 'lru-cache';
import { damage } from './damage.ts';
import { encodeHigh, encodeLow, tableOf } from './entries.ts';
import { type Geometry, type HostOffset, hostOffset } from './geometry.ts';
import type { TableWrite, WordTable } from './word-table.ts';

/** A sector is what a disk writes whole or not at all. */
const SECTOR = 512;

/** A table in memory. `view` is read freely; who changes it calls `ClusterTables.changed` at once. */
export interface ClusterTable {
  readonly index: number;
  readonly at: HostOffset;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Somebody has made sure that nothing else is changed with it. Who changes it looks here first. */
  mayChange: boolean;
  /** The bytes that the file does not have yet; empty if `from` is not below `to`. */
  dirtyFrom: number;
  dirtyTo: number;
}

/** What `peek` answers where the entry leads to no table. */
export const NO_TABLE: ClusterTable = {
  index: -1,
  at: hostOffset(0),
  bytes: new Uint8Array(0),
  view: tableOf(new Uint8Array(0)),
  mayChange: false,
  dirtyFrom: 0,
  dirtyTo: 0,
};

/** What the parent's entry says of a table. */
export type TableEntry =
  | { readonly kind: 'none' }
  | { readonly kind: 'table'; readonly at: HostOffset }
  | { readonly kind: 'corrupt'; readonly why: string };

/** Which tables these are. */
export interface TableKind {
  /** Judges an entry of the parent. */
  readonly describe: (high: number, low: number, index: number) => TableEntry;
  /** The specification's section, for errors. */
  readonly spec: string;
  /** Bytes of clean tables to keep; at least a few tables are kept whatever it says. */
  readonly cacheBytes: number;
  /** True if entries of the parent carry the `exclusive` bit. */
  readonly exclusiveBit: boolean;
}

/** The changes of all tables up to a moment. */
export interface TakenTables {
  readonly writes: readonly TableWrite[];
  readonly parts: readonly {
    readonly table: ClusterTable;
    readonly from: number;
    readonly to: number;
  }[];
}

/** The tables that one table of words leads to. */
export class ClusterTables {
  readonly parent: WordTable;
  readonly #file: HostSource;
  readonly #geometry: Geometry;
  readonly #tableBytes: number;
  readonly #kind: TableKind;
  readonly #clean: LRUCache<number, ClusterTable>;
  /** Changed tables, and those whose write is under way. */
  readonly #dirty = new Map<number, ClusterTable>();
  readonly #loading = new Map<number, Promise<void>>();
  /** Where tables were seen, so that nothing else is written there, and whose they are: the first one's. */
  readonly #places = new Map<number, number>();

  constructor(file: HostSource, parent: WordTable, geometry: Geometry, kind: TableKind) {
    this.#file = file;
    this.#geometry = geometry;
    this.parent = parent;
    this.#tableBytes = geometry.clusterSize;
    this.#kind = kind;
    // Bounded by size and not by count: for a count the cache would make room for all of it at once.
    this.#clean = new LRUCache({
      maxSize: Math.max(8 * geometry.clusterSize, kind.cacheBytes),
      sizeCalculation: () => geometry.clusterSize,
    });
  }

  /** Bytes of tables that wait for a barrier. */
  get dirtyBytes(): number {
    return this.#dirty.size * this.#tableBytes;
  }

  /** Judges an entry that leads to such a table. */
  describe(high: number, low: number, index: number): TableEntry {
    return this.#kind.describe(high, low, index);
  }

  /** True if a table was seen to be at this host cluster. */
  isAt(at: number): boolean {
    return this.#places.has(at);
  }

  /** True if another entry of the parent was seen to lead to the same place: the image is damaged. */
  isShared(table: ClusterTable): boolean {
    return this.#places.get(table.at) !== table.index;
  }

  /** The table `index`, `NO_TABLE` if there is none, or undefined: call `load`, which also tells errors. */
  peek(index: number): ClusterTable | undefined {
    const table = (this.#dirty.size > 0 ? this.#dirty.get(index) : undefined) ?? this.#clean.get(index);
    if (table !== undefined) return table;
    if (index >= this.parent.entries) return NO_TABLE;
    if (!this.parent.isLoaded(index)) return undefined;
    const entry = this.#describe(index);
    return entry.kind === 'none' ? NO_TABLE : undefined;
  }

  /**
   * Reads the table `index` if it is not in memory, so that `peek` answers. Other work may have made room for
   * itself again before the caller goes on, so ask in a loop: `while ((t = peek(i)) === undefined) await load(i)`.
   *
   * @throws {DiskError} corrupt
   */
  async load(index: number): Promise<void> {
    let loading = this.#loading.get(index);
    if (loading === undefined) {
      loading = this.#read(index).finally(() => this.#loading.delete(index));
      this.#loading.set(index, loading);
    }
    await loading;
  }

  /** The table `index`, or `NO_TABLE`, to be read at once and not to be changed. @throws {DiskError} corrupt */
  async get(index: number): Promise<ClusterTable> {
    for (;;) {
      const table = this.peek(index);
      if (table !== undefined) return table;
      await this.load(index);
    }
  }

  /** Says that bytes of a table changed; whole sectors are written, so that no write needs a read. */
  changed(table: ClusterTable, from: number, to: number): void {
    const start = from - (from % SECTOR);
    const end = Math.min(Math.ceil(to / SECTOR) * SECTOR, this.#tableBytes);
    const isDirty = table.dirtyFrom < table.dirtyTo;
    table.dirtyFrom = isDirty ? Math.min(table.dirtyFrom, start) : start;
    table.dirtyTo = isDirty ? Math.max(table.dirtyTo, end) : end;
    if (isDirty || this.#dirty.get(table.index) === table) return;
    this.#clean.delete(table.index);
    this.#dirty.set(table.index, table);
  }

  /**
   * Puts a new table at a newly allocated cluster and makes the parent's entry lead to it. It starts as
   * zeros, or as a copy of `content`.
   */
  create(index: number, at: HostOffset, content?: Uint8Array): ClusterTable {
    const bytes = new Uint8Array(this.#tableBytes);
    if (content !== undefined) bytes.set(content);
    const table = { ...newTable(index, at, bytes), mayChange: true, dirtyTo: this.#tableBytes };
    this.forget(index);
    this.#places.set(at, index);
    this.#dirty.set(index, table);
    this.parent.set(index, encodeHigh(at, this.#kind.exclusiveBit), encodeLow(at));
    return table;
  }

  /** Drops a table from memory with its changes; the parent's loaded entry is about to lead elsewhere. */
  forget(index: number): void {
    const entry = this.#describe(index);
    if (entry.kind === 'table' && this.#places.get(entry.at) === index) this.#places.delete(entry.at);
    this.#dirty.delete(index);
    this.#clean.delete(index);
  }

  /** Drops all tables from memory with their changes. */
  forgetAll(): void {
    this.#dirty.clear();
    this.#clean.clear();
    this.#places.clear();
  }

  /** Copies what changed since the last time, and counts it as unchanged from now on. */
  take(): TakenTables {
    const writes: TableWrite[] = [];
    const parts: TakenTables['parts'][number][] = [];
    for (const table of this.#dirty.values()) {
      const { dirtyFrom: from, dirtyTo: to } = table;
      if (from >= to) continue;
      writes.push({ at: table.at + from, bytes: table.bytes.slice(from, to) });
      parts.push({ table, from, to });
      table.dirtyFrom = 0;
      table.dirtyTo = 0;
    }
    return { writes, parts };
  }

  /** What was taken is in the file: tables that did not change meanwhile may leave memory again. */
  settle(taken: TakenTables): void {
    for (const { table } of taken.parts) {
      if (table.dirtyFrom < table.dirtyTo || this.#dirty.get(table.index) !== table) continue;
      this.#dirty.delete(table.index);
      this.#clean.set(table.index, table);
    }
  }

  /** Takes back what could not be written. */
  restore(taken: TakenTables): void {
    for (const { table, from, to } of taken.parts) {
      if (this.#dirty.get(table.index) === table) this.changed(table, from, to);
    }
  }

  async #read(index: number): Promise<void> {
    if (index >= this.parent.entries) return;
    await this.parent.load(index);
    const entry = this.#describe(index);
    if (entry.kind === 'corrupt') {
      const offset = this.parent.at + index * 8;
      throw damage(this.#geometry, entry.why, offset, this.#kind.spec);
    }
    if (entry.kind === 'none') return;
    const bytes = new Uint8Array(this.#tableBytes);
    if (!this.#file.tryRead(bytes, entry.at)) await this.#file.read(bytes, entry.at);
    // While we read, the entry may have come to lead elsewhere, or the parent have been replaced; what we
    // have is then not the table any more.
    if (index >= this.parent.entries || !this.parent.isLoaded(index)) return;
    const now = this.#describe(index);
    if (this.peek(index) !== undefined || now.kind !== 'table' || now.at !== entry.at) return;
    if (!this.#places.has(entry.at)) this.#places.set(entry.at, index);
    this.#clean.set(index, newTable(index, entry.at, bytes));
  }

  #describe(index: number): TableEntry {
    return this.#kind.describe(this.parent.high(index), this.parent.low(index), index);
  }
}

function newTable(index: number, at: HostOffset, bytes: Uint8Array): ClusterTable {
  return { index, at, bytes, view: tableOf(bytes), mayChange: false, dirtyFrom: 0, dirtyTo: 0 };
}
