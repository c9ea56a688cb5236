/**
 * How often each host cluster is referenced, as a check counts it.
 *
 * Counters come in pages that are made when something in them is counted, of one byte each until one of the
 * page needs more: a file of terabytes with little in it takes little memory.
 */
import type { Geometry } from '../geometry.ts';
import type { Findings } from './findings.ts';
import { say } from './sentences.ts';

const MOST = 2 ** 32 - 1;
/** So many clusters behind the end of the file are remembered. */
const MOST_OUTSIDE = 2 ** 20;

/** A counter for each of many indexes, 0 to start with, which stops at 2^32 - 1. */
export class SparseCounters {
  readonly #pages: (Uint8Array | Uint32Array | undefined)[] = [];
  readonly #pageBits: number;
  readonly #mask: number;

  /** A page has 2^pageBits counters: few where what is counted lies far apart. */
  constructor(pageBits: number) {
    this.#pageBits = pageBits;
    this.#mask = 2 ** pageBits - 1;
  }

  get(index: number): number {
    const page = this.#pages[index >>> this.#pageBits];
    return page === undefined ? 0 : (page[index & this.#mask] ?? 0);
  }

  set(index: number, value: number): void {
    const pageIndex = index >>> this.#pageBits;
    let page = this.#pages[pageIndex];
    if (page === undefined) {
      page = new Uint8Array(this.#mask + 1);
      this.#pages[pageIndex] = page;
    }
    if (value > 255 && page instanceof Uint8Array) {
      page = Uint32Array.from(page);
      this.#pages[pageIndex] = page;
    }
    page[index & this.#mask] = Math.min(value, MOST);
  }

  add(index: number, times: number): void {
    this.set(index, this.get(index) + times);
  }

  /** The first index from `from` on whose page exists, or `end`. */
  nextUsed(from: number, end: number): number {
    let page = from >>> this.#pageBits;
    if (this.#pages[page] !== undefined) return from;
    while (page < this.#pages.length && this.#pages[page] === undefined) page++;
    return page < this.#pages.length ? Math.min(page * (this.#mask + 1), end) : end;
  }

  /** All indexes whose counter is not 0, in order. */
  *entries(): Generator<readonly [index: number, value: number]> {
    for (const [page, counters] of this.#pages.entries()) {
      if (counters === undefined) continue;
      for (const [index, value] of counters.entries())
        if (value > 0) yield [page * (this.#mask + 1) + index, value];
    }
  }
}

/** The references to host clusters. */
export class References {
  readonly #geometry: Geometry;
  readonly #fileSize: number;
  readonly #findings: Findings;
  readonly #counters = new SparseCounters(14);
  readonly #outside = new Set<number>();
  readonly #most: number;
  readonly #perCluster: number;
  #clusters: number;

  constructor(geometry: Geometry, fileSize: number, findings: Findings) {
    this.#geometry = geometry;
    this.#fileSize = fileSize;
    this.#findings = findings;
    this.#clusters = Math.ceil(fileSize / geometry.clusterSize);
    this.#perCluster = 1 / geometry.clusterSize;
    this.#most = Math.min(geometry.refcountMax, MOST);
  }

  /** Clusters of the file. Grows if something reaches into the one behind its end. */
  get clusters(): number {
    return this.#clusters;
  }

  /** How often the cluster is referenced. */
  of(clusterIndex: number): number {
    return this.#counters.get(clusterIndex);
  }

  /**
   * Counts a reference to the cluster at `at`, which starts there and ends within the file. False: it does
   * not, and nothing was counted. The short way of `count` for the many entries of L2 tables.
   */
  countCluster(at: number, times: number): boolean {
    const index = at * this.#perCluster;
    if (at + this.#geometry.clusterSize > this.#fileSize || !Number.isInteger(index)) return false;
    this.#add(index, times);
    return true;
  }

  /** The first cluster from `from` on that may be referenced, or `end`. */
  nextUsed(from: number, end: number): number {
    return this.#counters.nextUsed(from, end);
  }

  /**
   * Counts a reference to each cluster of a range, `times` over. A range that ends one cluster or more
   * behind the file is a finding instead. `high` and `low` are the offset's halves, if it may be too large
   * for a number to hold exactly.
   */
  count(at: number, length: number, times = 1, high = Math.floor(at / 2 ** 32), low = at % 2 ** 32): void {
    const { clusterSize } = this.#geometry;
    if (length <= 0) return;
    if (!this.reaches(at, length)) {
      this.keep(at, length);
      this.#findings.corruption(times, say.outsideFile, high, low, length);
      return;
    }
    const last = Math.floor((at + length - 1) / clusterSize);
    this.#clusters = Math.max(this.#clusters, last + 1);
    for (let index = Math.floor(at / clusterSize); index <= last; index++) this.#add(index, times);
  }

  /** True if a range counts as in the file: it ends less than a cluster behind it. */
  reaches(at: number, length: number): boolean {
    return at + length - this.#fileSize < this.#geometry.clusterSize;
  }

  /** True if something refers to the cluster that is not counted, because it ends behind the end of the file. */
  isUsedOutside(clusterIndex: number): boolean {
    return this.#outside.has(clusterIndex);
  }

  /** Where the furthest reference behind the end of the file ends, as far as `limit`; 0: there is none. */
  outsideEnd(limit: number): number {
    let end = 0;
    const { clusterSize } = this.#geometry;
    for (const cluster of this.#outside)
      if ((cluster + 1) * clusterSize <= limit) end = Math.max(end, (cluster + 1) * clusterSize);
    return end;
  }

  /** Remembers that clusters are used, without counting references to them. */
  keep(at: number, length: number): void {
    const { clusterSize } = this.#geometry;
    // Beyond that no file reaches, and numbers do not count by one.
    if (at + length > Number.MAX_SAFE_INTEGER) return;
    const first = Math.floor(at / clusterSize);
    const last = Math.min(Math.floor((at + length - 1) / clusterSize), first + MOST_OUTSIDE);
    for (let index = first; index <= last && this.#outside.size < MOST_OUTSIDE; index++)
      this.#outside.add(index);
  }

  #add(clusterIndex: number, times: number): void {
    const count = this.#counters.get(clusterIndex) + times;
    this.#counters.set(clusterIndex, Math.min(count, this.#most));
    if (count <= this.#most || this.#most === MOST) return;
    const at = clusterIndex * this.#geometry.clusterSize;
    this.#findings.corruption(count - this.#most, say.overflow, at);
  }
}
