/**
 * Compressed clusters, read: a raw deflate stream becomes the bytes of one cluster.
 *
 * QEMU stops as soon as the cluster is full, whatever the stream goes on to say, and refuses a stream that
 * ends before; Node's one-shot inflate does the reverse in both cases, so what it refuses is tried again
 * piece by piece. Other writers use larger windows than QEMU's 4 KiB, so 32 KiB are accepted. What follows
 * the stream in its last sector belongs to somebody else and is ignored. The output never grows past one
 * cluster, however much the stream claims to hold. Inflating runs in the thread pool.
 *
 * Spec: qcow2.txt, "Cluster mapping", Compressed Clusters Descriptor.
 */
import type { ZlibOptions } from 'node:zlib';
import { DiskError, type HostSource } from '@strata/block';
import { LRUCache } from 'lru-cache';
import { compressedAt, compressedMaxLength } from './entries.ts';
import type { Geometry } from './geometry.ts';

/** Loading it takes as long as a small command, and most images have no compressed clusters. */
const zlib = () => process.getBuiltinModule('node:zlib');

/** Bytes of decoded clusters to keep: neighbouring small reads then inflate a cluster once. */
const KEEP_BYTES = 8 * 1024 * 1024;
/** What keeping one costs besides its bytes, about. */
const PROMISE_BYTES = 256;

/**
 * The first `length` bytes that a raw deflate stream holds.
 *
 * @throws {DiskError} corrupt if it holds fewer, or is no such stream
 */
export function inflate(stream: Uint8Array, length: number): Promise<Uint8Array> {
  const options: ZlibOptions = {
    windowBits: 15,
    chunkSize: Math.max(length, 64),
    maxOutputLength: length,
    finishFlush: zlib().constants.Z_SYNC_FLUSH,
  };
  return new Promise((resolve, reject) => {
    zlib().inflateRaw(stream, options, (error, bytes) => {
      if (error === null && bytes.length === length) resolve(bytes);
      else inflatePrefix(stream, length).then(resolve, reject);
    });
  });
}

/** The same for a stream that does not end where the cluster does. */
async function inflatePrefix(stream: Uint8Array, length: number): Promise<Uint8Array> {
  const { constants, createInflateRaw } = zlib();
  const inflater = createInflateRaw({ windowBits: 15, finishFlush: constants.Z_SYNC_FLUSH });
  inflater.end(stream);
  const bytes = new Uint8Array(length);
  let filled = 0;
  let cause: unknown;
  try {
    for await (const chunk of inflater as AsyncIterable<Uint8Array>) {
      const part = chunk.subarray(0, length - filled);
      bytes.set(part, filled);
      filled += part.length;
      if (filled === length) return bytes;
    }
  } catch (error) {
    cause = error;
  } finally {
    inflater.destroy();
  }
  throw new DiskError('corrupt', `a compressed cluster holds ${filled} bytes instead of ${length}`, {
    cause,
  });
}

/** Reads and keeps decoded clusters of one image. */
export class CompressedReader {
  readonly #file: HostSource;
  readonly #geometry: Geometry;
  readonly #kept: LRUCache<number, Promise<Uint8Array>>;

  constructor(file: HostSource, geometry: Geometry) {
    this.#file = file;
    this.#geometry = geometry;
    this.#kept = new LRUCache({
      maxSize: KEEP_BYTES,
      sizeCalculation: () => geometry.clusterSize + PROMISE_BYTES,
    });
  }

  /**
   * The cluster that an L2 entry of kind `compressed` describes. The bytes are shared: do not change them.
   *
   * @throws {DiskError} corrupt
   */
  cluster(high: number, low: number): Promise<Uint8Array> {
    const at = compressedAt(this.#geometry, high, low);
    let cluster = this.#kept.get(at);
    if (cluster === undefined) {
      cluster = this.#read(at, compressedMaxLength(this.#geometry, high, low));
      this.#kept.set(at, cluster);
      cluster.catch(() => this.#kept.delete(at));
    }
    return cluster;
  }

  /** Says that the entry is gone: its place may come to hold something else. */
  forget(high: number, low: number): void {
    this.#kept.delete(compressedAt(this.#geometry, high, low));
  }

  /** The same for all entries. */
  forgetAll(): void {
    this.#kept.clear();
  }

  async #read(at: number, maxLength: number): Promise<Uint8Array> {
    const stream = new Uint8Array(maxLength);
    if (!this.#file.tryRead(stream, at)) await this.#file.read(stream, at);
    try {
      return await inflate(stream, this.#geometry.clusterSize);
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      throw new DiskError(error.code, `${error.message} (at 0x${at.toString(16)})`, {
        offset: at,
        spec: 'qcow2.txt, "Cluster mapping"',
        cause: error.cause,
      });
    }
  }
}
