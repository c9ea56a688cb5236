/**
 * Compression type 0, called zlib: a raw deflate stream.
 *
 * QEMU stops as soon as the cluster is full, whatever the stream goes on to say, and refuses a stream that ends
 * before; Node's one-shot inflate does the reverse in both cases, so what it refuses is tried again piece by
 * piece. Where the system has libdeflate, which is faster, it comes before both. QEMU reads windows of 4 KiB only, so that is what is written; other writers use larger ones, so 32 KiB
 * are read.
 *
 * Level 5 takes three quarters of the time of QEMU's 6 for streams that are less than 0.3 % longer.
 *
 * Spec: qcow2.txt, "Cluster mapping", Compressed Clusters Descriptor; RFC 1951.
 */
import type { ZlibOptions } from 'node:zlib';
import { allOf } from '../settle.ts';
import { type Codec, notACluster, SMALL } from './codec.ts';
import type { InflateExactly } from './deflate-library.ts';
import { inThreadPool } from './jobs.ts';

const DEFAULT_LEVEL = 5;
/** Room behind the cluster: when output ends with its buffer, Node asks the stream for more in a second trip. */
const SPARE = 64;

/** Loading it takes as long as a small command, and most images have no compressed clusters. */
const zlib = () => process.getBuiltinModule('node:zlib');

/** Raw deflate through node:zlib; `inflateExactly` is asked first. */
export function deflateCodecOf(inflateExactly: InflateExactly | undefined): Codec {
  const decode = async (stream: Uint8Array, into: Uint8Array): Promise<void> => {
    if ((await inflateExactly?.(stream, into)) === true) return;
    const bytes = await inflateWhole(stream, into.length).catch(() => undefined);
    if (bytes !== undefined && bytes.length >= into.length) into.set(bytes.subarray(0, into.length));
    else await inflatePrefix(stream, into);
  };
  return {
    decode,
    encode,
    decodeRun: (streams, into) => {
      const each = into.length / streams.length;
      const all = streams.map((stream, index) =>
        decode(stream, into.subarray(index * each, (index + 1) * each)),
      );
      return allOf(all).then(
        () => true,
        () => false,
      );
    },
  };
}

/** The best codec that this host has. */
export async function deflateCodec(): Promise<Codec> {
  return deflateCodecOf(await (await import('./deflate-library.ts')).libraryInflate());
}

async function encode(cluster: Uint8Array, into: Uint8Array, level = DEFAULT_LEVEL): Promise<number> {
  const options: ZlibOptions = {
    level,
    windowBits: 12,
    memLevel: 9,
    chunkSize: Math.max(cluster.length, 64),
    maxOutputLength: cluster.length - 1,
  };
  try {
    const stream = await deflate(cluster, options);
    into.set(stream);
    return stream.length;
  } catch (error) {
    if (error instanceof RangeError && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE') return 0;
    throw error;
  }
}

function deflate(cluster: Uint8Array, options: ZlibOptions): Promise<Uint8Array> {
  const { deflateRaw, deflateRawSync } = zlib();
  if (cluster.length > SMALL) return inThreadPool((done) => deflateRaw(cluster, options, done));
  return atOnce(() => deflateRawSync(cluster, options));
}

/** What a stream holds that ends within `length` bytes and a few more. */
function inflateWhole(stream: Uint8Array, length: number): Promise<Uint8Array> {
  const { constants, inflateRaw, inflateRawSync } = zlib();
  const options: ZlibOptions = {
    windowBits: 15,
    chunkSize: length + SPARE,
    maxOutputLength: length + SPARE,
    finishFlush: constants.Z_SYNC_FLUSH,
  };
  if (length > SMALL) return inThreadPool((done) => inflateRaw(stream, options, done));
  return atOnce(() => inflateRawSync(stream, options));
}

async function atOnce<T>(job: () => T): Promise<T> {
  return job();
}

/** Fills `into` from a stream that does not end where the cluster does. */
async function inflatePrefix(stream: Uint8Array, into: Uint8Array): Promise<void> {
  const { constants, createInflateRaw } = zlib();
  const inflater = createInflateRaw({ windowBits: 15, finishFlush: constants.Z_SYNC_FLUSH });
  inflater.end(stream);
  let filled = 0;
  let cause: unknown;
  try {
    for await (const chunk of inflater as AsyncIterable<Uint8Array>) {
      const part = chunk.subarray(0, into.length - filled);
      into.set(part, filled);
      filled += part.length;
      if (filled === into.length) return;
    }
  } catch (error) {
    cause = error;
  } finally {
    inflater.destroy();
  }
  throw notACluster(`holds ${filled} bytes instead of ${into.length}`, cause);
}
