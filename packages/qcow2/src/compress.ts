/**
 * Compressed clusters, read: found, decoded, and kept for a while.
 *
 * Somebody who reads a whole cluster has it decoded into his own buffer; what a smaller read decodes is kept,
 * as its neighbours are likely to be asked for next.
 *
 * Spec: qcow2.txt, "Cluster mapping", Compressed Clusters Descriptor.
 */
import { DiskError, type HostSource, isDiskError } from '@strata/block';
import { LRUCache } from 'lru-cache';
import type { Codec } from './codec/codec.ts';
import { compressedAt, compressedMaxLength } from './entries.ts';
import type { Geometry } from './geometry.ts';
import type { L2Entry } from './l2-entry.ts';

/** Bytes of decoded clusters to keep: neighbouring small reads then decode a cluster once. */
const KEEP_BYTES = 8 * 1024 * 1024;
/** Buffers for streams to keep. */
const KEEP_BUFFERS = 32;
/** Buffers for the streams of runs to keep. */
const KEEP_RUN_BUFFERS = 8;
/** Bytes of clusters that are decoded as one run; more would keep other threads, or the event loop, waiting. */
const RUN_BYTES = 1024 * 1024;
/** What keeping one costs besides its bytes, about. */
const PROMISE_BYTES = 256;

/** Reads and keeps decoded clusters of one image. */
export class CompressedReader {
  readonly #file: HostSource;
  readonly #geometry: Geometry;
  readonly #codec: Codec;
  readonly #kept: LRUCache<number, Promise<Uint8Array>>;
  /** Bytes of a stream that is shorter than its cluster, and of the sectors around it. */
  readonly #longest: number;
  /** For streams, to be used again. */
  readonly #buffers: Buffer[] = [];
  readonly #runBuffers: Buffer[] = [];
  /** The most clusters of a run; 1 where they are so large that a run is no gain. */
  readonly longestRun: number;

  constructor(file: HostSource, geometry: Geometry, codec: Codec) {
    this.#file = file;
    this.#geometry = geometry;
    this.#codec = codec;
    this.#longest = geometry.clusterSize + 1024;
    this.longestRun = Math.max(1, Math.floor(RUN_BYTES / geometry.clusterSize));
    this.#kept = new LRUCache({
      maxSize: KEEP_BYTES,
      sizeCalculation: () => geometry.clusterSize + PROMISE_BYTES,
    });
  }

  /**
   * Fills `into` with the bytes from `within` on of the cluster that an L2 entry of kind `compressed` describes.
   *
   * @throws {DiskError} corrupt
   */
  async read(high: number, low: number, into: Uint8Array, within: number): Promise<void> {
    const at = compressedAt(this.#geometry, high, low);
    const maxLength = compressedMaxLength(this.#geometry, high, low);
    let cluster = this.#kept.get(at);
    if (cluster === undefined) {
      if (into.length === this.#geometry.clusterSize) return this.#decode(at, maxLength, into);
      const bytes = new Uint8Array(this.#geometry.clusterSize);
      cluster = this.#decode(at, maxLength, bytes).then(() => bytes);
      this.#kept.set(at, cluster);
      cluster.catch(() => this.#kept.delete(at));
    }
    into.set((await cluster).subarray(within, within + into.length));
  }

  /**
   * Fills `into` with the clusters, at most `longestRun`, that the L2 entries describe. Streams that lie near each
   * other are read at once and decoded together. False if that cannot be, for whatever reason: then each must be
   * read by itself, and tells it. Does not reject.
   */
  async readRun(entries: readonly L2Entry[], into: Uint8Array): Promise<boolean> {
    const starts = entries.map(({ high, low }) => compressedAt(this.#geometry, high, low));
    const ends = entries.map(({ high, low }, index) => {
      const length = compressedMaxLength(this.#geometry, high, low);
      return (starts[index] as number) + length;
    });
    const start = Math.min(...starts);
    const length = Math.max(...ends) - start;
    const room = this.longestRun * this.#longest;
    if (length > room) return false;
    const buffer = this.#runBuffers.pop() ?? Buffer.allocUnsafeSlow(room);
    const bytes = buffer.subarray(0, length);
    try {
      if (!this.#file.tryRead(bytes, start)) await this.#file.read(bytes, start);
      const streams = starts.map((at, index) => bytes.subarray(at - start, (ends[index] as number) - start));
      return await this.#codec.decodeRun(streams, into);
    } catch {
      return false;
    } finally {
      if (this.#runBuffers.length < KEEP_RUN_BUFFERS) this.#runBuffers.push(buffer);
    }
  }

  /** Says that the entry is gone: its place may come to hold something else. */
  forget(high: number, low: number): void {
    this.#kept.delete(compressedAt(this.#geometry, high, low));
  }

  /** The same for all entries. */
  forgetAll(): void {
    this.#kept.clear();
  }

  async #decode(at: number, maxLength: number, into: Uint8Array): Promise<void> {
    const buffer = this.#buffers.pop() ?? Buffer.allocUnsafeSlow(this.#longest);
    // Nothing that QEMU or we write is longer, but more can be claimed.
    const stream = maxLength <= this.#longest ? buffer.subarray(0, maxLength) : new Uint8Array(maxLength);
    try {
      if (!this.#file.tryRead(stream, at)) await this.#file.read(stream, at);
      await this.#codec.decode(stream, into);
    } catch (error) {
      if (!isDiskError(error, 'corrupt')) throw error;
      throw new DiskError(error.code, `${error.message} (at 0x${at.toString(16)})`, {
        offset: at,
        spec: 'qcow2.txt, "Cluster mapping"',
        cause: error.cause,
      });
    } finally {
      if (this.#buffers.length < KEEP_BUFFERS) this.#buffers.push(buffer);
    }
  }
}
