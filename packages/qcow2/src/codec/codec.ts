/**
 * How the clusters of an image are encoded: the one contract that both kinds of compression keep.
 *
 * Encoding and decoding run in the thread pool, several jobs at once; jobs that are shorter than the way there
 * and back run in the event loop.
 *
 * Spec: qcow2.txt, "Header", compression_type.
 */
import { DiskError } from '@strata/block';
import { Compression } from '../format.ts';

/** Encodes and decodes clusters. */
export interface Codec {
  /**
   * Fills all of `into` with what the stream at the start of `stream` holds; what follows the stream is not its
   * own. Nothing larger than `into` comes into being, however much the stream claims to hold. Neither buffer may
   * change until it settles.
   *
   * @throws {DiskError} corrupt where QEMU refuses the stream, not-supported
   */
  decode(stream: Uint8Array, into: Uint8Array): Promise<void>;

  /**
   * Fills `into` with the clusters, as many and all as long, whose streams are at the starts of `streams`, with
   * less effort than one by one. False if that cannot be: then nothing is said of any of them, and each must be
   * decoded by itself. No buffer may change until it settles. Does not reject.
   */
  decodeRun(streams: readonly Uint8Array[], into: Uint8Array): Promise<boolean>;

  /**
   * Puts the stream for a cluster into the start of `into`, which is as long as the cluster, and resolves to its
   * length; 0 if it would not be shorter than the cluster. The same bytes and level always make the same stream.
   * Without a level it is fast and not much longer than QEMU's. Neither buffer may change until it settles.
   *
   * @throws {DiskError} not-supported
   */
  encode(cluster: Uint8Array, into: Uint8Array, level: number | undefined): Promise<number>;
}

/** The levels of a header's `compression_type`. */
export function levelsOf(compressionType: number): { readonly least: number; readonly most: number } {
  return compressionType === Compression.zstd ? { least: 1, most: 19 } : { least: 1, most: 9 };
}

/** The codec for a header's `compression_type`. It is loaded when it is first used. */
export function codecOf(compressionType: number): Codec {
  let loading: Promise<Codec> | undefined;
  const load = (): Promise<Codec> => {
    loading ??=
      compressionType === Compression.zstd
        ? import('./zstd.ts').then(({ zstdCodec }) => zstdCodec())
        : import('./deflate.ts').then(({ deflateCodec }) => deflateCodec());
    return loading;
  };
  return {
    decode: async (stream, into) => (await load()).decode(stream, into),
    decodeRun: async (streams, into) => (await load()).decodeRun(streams, into),
    encode: async (cluster, into, level) => (await load()).encode(cluster, into, level),
  };
}

/** Clusters up to this size are encoded and decoded in the event loop. */
export const SMALL = 4096;

/** The error for a stream that does not hold a cluster. */
export function notACluster(why: string, cause?: unknown): DiskError {
  return new DiskError('corrupt', `a compressed cluster ${why}`, { cause });
}
