/**
 * Places for the bytes of compressed clusters: packed one behind the other, several in a host cluster.
 *
 * A stream goes behind the last one if it fits into what is left of that host cluster, or if the next free
 * cluster is the one behind it; otherwise it begins a new cluster. Each stream counts once in the refcount of
 * every host cluster that it touches. QEMU packs in the same way.
 *
 * A host cluster that loses a use is not filled any further: what is left of it may be about to be punched out
 * of the file or given to somebody else.
 *
 * Spec: qcow2.txt, "Cluster mapping", Compressed Clusters Descriptor, and "Host cluster management".
 */
import { DiskError } from '@strata/block';
import type { Allocator } from './allocate.ts';
import { compressedEnd } from './entries.ts';
import { clusterIndexOf, type Geometry, type HostOffset, hostOffset } from './geometry.ts';
import type { Refcounts } from './refcounts.ts';

/** What packing works on. */
export interface PackerParts {
  readonly geometry: Geometry;
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
}

/** Where the bytes of a compressed cluster lie. */
export interface PackedBytes {
  readonly at: HostOffset;
  readonly length: number;
}

/** Packs the compressed clusters of one image. */
export class Packer {
  readonly #parts: PackerParts;
  /** Where the next stream may begin, inside a host cluster of streams; 0: nowhere. */
  #open = 0;
  #used = false;

  constructor(parts: PackerParts) {
    this.#parts = parts;
    parts.allocator.whenReleasing = (first, count) => {
      const open = clusterIndexOf(parts.geometry, this.#open);
      if (open >= first && open < first + count) this.#open = 0;
    };
  }

  /** True once anything was packed: then the file may end within a sector. */
  get isUsed(): boolean {
    return this.#used;
  }

  /**
   * A place for `length` bytes, 1 to the size of a cluster.
   *
   * @throws {DiskError} corrupt, no-space
   */
  async place(length: number): Promise<PackedBytes> {
    const { refcounts, geometry, allocator } = this.#parts;
    for (;;) {
      const found = this.tryPlace(length);
      if (found !== undefined) return found;
      const open = clusterIndexOf(geometry, this.#open);
      if (open !== 0 && refcounts.peek(open) === undefined) await refcounts.get(open);
      else await allocator.load();
    }
  }

  /** The same without waiting; undefined: call `place`. @throws {DiskError} corrupt, no-space */
  tryPlace(length: number): PackedBytes | undefined {
    const { geometry, refcounts, allocator } = this.#parts;
    const { clusterSize, refcountMax } = geometry;
    const uses = this.#open === 0 ? refcountMax : refcounts.peek(clusterIndexOf(geometry, this.#open));
    if (uses === undefined) return undefined;
    let at = uses < refcountMax ? this.#open : 0;
    const left = at === 0 ? 0 : clusterSize - (at % clusterSize);
    if (left < length) {
      const run = allocator.tryAllocate(1);
      if (run === undefined) return undefined;
      // The new cluster's first use is this stream's, whether it begins there or only ends there.
      if (at !== 0 && at + left === run.at) allocator.addUse(clusterIndexOf(geometry, at));
      else at = run.at;
    } else allocator.addUse(clusterIndexOf(geometry, at));
    const end = at + length;
    if (end > compressedEnd(geometry))
      throw new DiskError('no-space', 'the image is full: no compressed cluster can lie that far behind');
    this.#open = end % clusterSize === 0 ? 0 : end;
    this.#used = true;
    return { at: hostOffset(at), length };
  }

  /** Gives back a place that no table entry ever led to. */
  async release({ at, length }: PackedBytes): Promise<void> {
    const { geometry, allocator } = this.#parts;
    const first = clusterIndexOf(geometry, at);
    await allocator.drop(first, clusterIndexOf(geometry, at + length - 1) - first + 1);
  }
}
