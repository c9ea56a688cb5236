/**
 * Which ranges of a disk changed, at a granularity.
 *
 * A bitmap errs on one side only. What is set grows to whole granules, what is cleared shrinks to whole ones, so
 * that a byte that changed is never taken for clean. It lives in memory; where it is kept beyond that is not
 * its concern.
 */
import { checkRange, DiskError } from '@strata/block';
import { bytesOf, withBytes } from './bit-bytes.ts';
import {
  allIn,
  allOut,
  type BitTree,
  cloneTree,
  countIn,
  find,
  type LeafRun,
  leafRuns,
  leafSize,
  type MemoryRoom,
  put,
  release,
  treeBits,
} from './bit-tree.ts';

/** In bytes; QEMU's and qcow2's bounds. */
export const smallestGranularity = 512;
export const largestGranularity = 2 ** 31;

/** Bytes of memory that a bitmap may take that shares its room with no other, and the bitmaps of an image together. */
export const mostMemory = 256 * 1024 * 1024;

/** A run of dirty bytes. */
export interface DirtyRange {
  readonly offset: number;
  /** At least 1. */
  readonly length: number;
}

/**
 * Dirty granules of a disk of a fixed size. A new bitmap is clean. What it takes of memory is bounded: one that has used
 * up its room keeps runs of granules as dirty that it has no room to tell apart.
 */
export class DirtyBitmap {
  /** Of the disk, in bytes. */
  readonly size: number;
  /** In bytes, a power of two. The last granule ends with the disk. */
  readonly granularity: number;
  readonly #granules: number;
  readonly #bits: number;
  readonly #room: MemoryRoom;
  #tree: BitTree = allOut;

  /**
   * @param room what it takes its memory from
   * @throws {DiskError} invalid for a granularity that is not a power of two from 512 bytes to 2 GiB
   */
  constructor(size: number, granularity: number, room: MemoryRoom = { left: mostMemory }) {
    checkRange(0, size, Number.MAX_SAFE_INTEGER);
    if (!Number.isInteger(Math.log2(granularity)) || granularity < smallestGranularity) {
      throw new DiskError('invalid', `Granularity must be power of 2 and at least ${smallestGranularity}`);
    }
    if (granularity > largestGranularity) {
      throw new DiskError('invalid', `Granularity exceeds maximum (${largestGranularity} bytes)`);
    }
    this.size = size;
    this.granularity = granularity;
    this.#granules = Math.ceil(size / granularity);
    this.#bits = treeBits(this.#granules);
    this.#room = room;
  }

  /** Makes every granule dirty that the range touches. @throws {RangeError} outside the disk */
  set(offset: number, length: number): void {
    checkRange(offset, length, this.size);
    if (length === 0) return;
    this.#put(Math.floor(offset / this.granularity), Math.ceil((offset + length) / this.granularity), allIn);
  }

  /** Makes every granule clean that lies wholly in the range. @throws {RangeError} outside the disk */
  clear(offset: number, length: number): void {
    checkRange(offset, length, this.size);
    const end = offset + length;
    const last = end === this.size ? this.#granules : Math.floor(end / this.granularity);
    this.#put(Math.ceil(offset / this.granularity), last, allOut);
  }

  /** Makes all dirty. */
  setAll(): void {
    this.#put(0, this.#granules, allIn);
  }

  /** Makes all clean. */
  clearAll(): void {
    release(this.#tree, this.#room);
    this.#tree = allOut;
  }

  /** @throws {RangeError} outside the disk */
  isDirty(offset: number): boolean {
    checkRange(offset, 1, this.size);
    const granule = Math.floor(offset / this.granularity);
    return find(this.#tree, this.#bits, granule, allIn) === granule;
  }

  /** The first run of dirty bytes from `offset` on; undefined if all that follows is clean. */
  nextDirty(offset: number): DirtyRange | undefined {
    checkRange(offset, 0, this.size);
    const first = find(this.#tree, this.#bits, Math.floor(offset / this.granularity), allIn);
    if (first >= this.#granules) return undefined;
    const last = find(this.#tree, this.#bits, first, allOut);
    const start = Math.max(first * this.granularity, offset);
    const end = Math.min(last * this.granularity, this.size);
    return start < end ? { offset: start, length: end - start } : undefined;
  }

  /** The runs of dirty bytes, ascending and apart. Changes made meanwhile show if they lie ahead. */
  *ranges(): Generator<DirtyRange, void, undefined> {
    let range = this.nextDirty(0);
    while (range !== undefined) {
      yield range;
      range = this.nextDirty(range.offset + range.length);
    }
  }

  /** Dirty bytes. */
  get count(): number {
    const granules = countIn(this.#tree, this.#bits, this.#granules);
    const tail = this.#granules * this.granularity - this.size;
    const isTailDirty = this.size > 0 && this.isDirty(this.size - 1);
    return granules * this.granularity - (isTailDirty ? tail : 0);
  }

  /** Makes dirty what is dirty in `other`, whatever its granularity. @throws {DiskError} invalid for another size */
  merge(other: DirtyBitmap): void {
    if (other.size !== this.size) {
      const sizes = `destination size is ${this.size}, source size is ${other.size}`;
      throw new DiskError('invalid', `Bitmaps are of different sizes (${sizes}) and can't be merged`);
    }
    if (other === this) return;
    for (const { offset, length } of other.ranges()) this.set(offset, length);
  }

  /** A bitmap that says the same and goes its own way; its memory comes from the same room. */
  copy(): DirtyBitmap {
    const copy = new DirtyBitmap(this.size, this.granularity, this.#room);
    copy.#tree = cloneTree(this.#tree, this.#room);
    return copy;
  }

  /** Gives the memory back. Whoever still asks the bitmap hears that all is dirty. */
  retire(): void {
    release(this.#tree, this.#room);
    this.#tree = allIn;
  }

  /** A copy for a disk of another size: what is added is clean. */
  resized(size: number): DirtyBitmap {
    const copy = new DirtyBitmap(size, this.granularity, this.#room);
    for (const { offset, length } of this.ranges()) {
      const inside = Math.min(length, size - offset);
      if (inside > 0) copy.set(offset, inside);
    }
    return copy;
  }

  /**
   * Fills `into` with a bit for every granule from `first` on, a multiple of 4096, the first in the lowest bit of
   * the first byte; bits past the last granule are 0.
   */
  exportBits(first: number, into: Uint8Array): void {
    const given = Math.max(0, Math.min(into.length, Math.ceil((this.#granules - first) / 8)));
    bytesOf(this.#tree, this.#bits, first, into.subarray(0, given));
    into.fill(0, given);
    const left = this.#granules - first - (given - 1) * 8;
    if (given > 0 && left < 8) into[given - 1] = (into[given - 1] as number) & (0xff >>> (8 - left));
  }

  /** Makes dirty what `bytes` has as `exportBits` writes it; bits past the last granule are passed over. */
  importBits(first: number, bytes: Uint8Array): void {
    this.#tree = withBytes(this.#tree, this.#bits, first, bytes, this.#granules, this.#room);
  }

  /**
   * The granules in leaves of 4096, from the first on: runs of leaves that are all clean or all dirty, and single
   * leaves. Past the last granule a leaf says nothing.
   */
  *leafRuns(): Generator<LeafRun, void, undefined> {
    const leaves = Math.ceil(this.#granules / leafSize);
    for (const run of leafRuns(this.#tree, this.#bits)) {
      const left = leaves - run.first / leafSize;
      if (left <= 0) return;
      yield run.leaves <= left ? run : { ...run, leaves: left };
    }
  }

  #put(from: number, to: number, state: 0 | 1): void {
    this.#tree = put(this.#tree, this.#bits, from, to, state, this.#room);
  }
}
