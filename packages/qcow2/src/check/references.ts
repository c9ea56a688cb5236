/**
 * How often each host cluster is referenced, as a check counts it.
 *
 * Counters come in pages that are made when something in them is counted: a file of terabytes with little in
 * it takes little memory.
 */

import { wordDigits } from '../entries.ts';
import type { Geometry } from '../geometry.ts';
import type { Findings } from './findings.ts';

const PAGE_BITS = 14;
const PAGE = 2 ** PAGE_BITS;
const MOST = 2 ** 32 - 1;

/** A counter for each of many indexes, 0 to start with, which stops at 2^32 - 1. */
export class SparseCounters {
  readonly #pages: (Uint32Array | undefined)[] = [];

  get(index: number): number {
    return this.#pages[index >>> PAGE_BITS]?.[index & (PAGE - 1)] ?? 0;
  }

  set(index: number, value: number): void {
    const page = index >>> PAGE_BITS;
    let counters = this.#pages[page];
    if (counters === undefined) {
      counters = new Uint32Array(PAGE);
      this.#pages[page] = counters;
    }
    counters[index & (PAGE - 1)] = Math.min(value, MOST);
  }

  add(index: number, times: number): void {
    this.set(index, this.get(index) + times);
  }

  /** The first index from `from` on whose page exists, or `end`. */
  nextUsed(from: number, end: number): number {
    let page = from >>> PAGE_BITS;
    const pages = Math.min(this.#pages.length, Math.ceil(end / PAGE));
    if (page < pages && this.#pages[page] !== undefined) return from;
    while (page < pages && this.#pages[page] === undefined) page++;
    return page < pages ? Math.min(page * PAGE, end) : end;
  }

  /** All indexes whose counter is not 0, in order. */
  *entries(): Generator<readonly [index: number, value: number]> {
    for (const [page, counters] of this.#pages.entries()) {
      if (counters === undefined) continue;
      for (const [index, value] of counters.entries()) if (value > 0) yield [page * PAGE + index, value];
    }
  }
}

/** The references to host clusters. */
export class References {
  readonly #geometry: Geometry;
  readonly #fileSize: number;
  readonly #findings: Findings;
  readonly #counters = new SparseCounters();
  readonly #most: number;
  #clusters: number;

  constructor(geometry: Geometry, fileSize: number, findings: Findings) {
    this.#geometry = geometry;
    this.#fileSize = fileSize;
    this.#findings = findings;
    this.#clusters = Math.ceil(fileSize / geometry.clusterSize);
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
    if (at + length - this.#fileSize >= clusterSize) {
      const text = `ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x${wordDigits(high, low)} size 0x${length.toString(16)}`;
      this.#findings.corruption(text, times);
      return;
    }
    const last = Math.floor((at + length - 1) / clusterSize);
    this.#clusters = Math.max(this.#clusters, last + 1);
    for (let index = Math.floor(at / clusterSize); index <= last; index++) this.#add(index, times);
  }

  #add(clusterIndex: number, times: number): void {
    const count = this.#counters.get(clusterIndex) + times;
    this.#counters.set(clusterIndex, Math.min(count, this.#most));
    if (count <= this.#most || this.#most === MOST) return;
    const at = (clusterIndex * this.#geometry.clusterSize).toString(16);
    const advice =
      'Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy if the image cannot be opened for writing';
    this.#findings.corruption(`ERROR: overflow cluster offset=0x${at}\n${advice}`, count - this.#most);
  }
}
