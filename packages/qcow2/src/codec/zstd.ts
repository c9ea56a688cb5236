/**
 * Compression type 1, zstd: frames that together hold one cluster.
 *
 * QEMU goes through as many frames as it takes to fill the cluster, and the last of them must end with it: a
 * frame that holds more is refused, unlike a deflate stream. The frames are told apart here, and decoded by the
 * first of these that the host has: the system's libzstd, which is the fastest because its contexts and buffers
 * are used again; node:zlib (from Node 22.15 on); and zstd compiled to WebAssembly, which is there everywhere.
 * All are handed the room that is left in the cluster and write no further.
 *
 * Level 2 takes three quarters of the time of QEMU's 3 for streams that are less than 2 % longer.
 *
 * Spec: qcow2.txt, "Header", compression_type; RFC 8878.
 */
import { DiskError } from '@strata/block';
import { type Codec, notACluster } from './codec.ts';
import { frameAt } from './zstd-frames.ts';

const DEFAULT_LEVEL = 2;

/** What can encode and decode single frames. */
export interface ZstdEngine {
  /** `decodeFrame` takes several frames that follow each other as well. */
  readonly takesRuns?: boolean;
  /**
   * Decodes one whole frame into the start of `into`, and resolves to how many bytes it held. Rejects, with
   * whatever error, if it is damaged or holds more than fits.
   */
  decodeFrame(frame: Uint8Array, into: Uint8Array, contentSize: number | undefined): Promise<number>;
  /**
   * Puts one frame that holds `bytes` into the start of `into`, which is as long as `bytes`, and resolves to its
   * length; 0 if it would not be shorter.
   */
  encodeFrame(bytes: Uint8Array, into: Uint8Array, level: number): Promise<number>;
}

/** Room for frames that do not follow each other, to be used again. */
const KEEP_SCRATCH = 4;

/** The codec of an engine. */
export function zstdCodecOf(engine: ZstdEngine): Codec {
  const scratch: Uint8Array[] = [];
  return {
    async decodeRun(streams, into) {
      const frames =
        engine.takesRuns === true ? wholeFrames(streams, into.length / streams.length) : undefined;
      if (frames === undefined) return false;
      const length = frames.reduce((sum, frame) => sum + frame.length, 0);
      let room: Uint8Array | undefined;
      let run = asOne(frames, length);
      if (run === undefined) {
        room = scratch.pop();
        if (room === undefined || room.length < length)
          room = Buffer.allocUnsafeSlow(Math.max(length, into.length));
        run = joined(frames, room.subarray(0, length));
      }
      try {
        return (await engine.decodeFrame(run, into, into.length)) === into.length;
      } catch {
        return false;
      } finally {
        if (room !== undefined && scratch.length < KEEP_SCRATCH) scratch.push(room);
      }
    },

    async decode(stream, into) {
      for (let at = 0, filled = 0; filled < into.length; ) {
        const frame = frameAt(stream, at);
        if (frame === undefined) throw notACluster(`holds ${filled} bytes instead of ${into.length}`);
        const { end, kind, contentSize } = frame;
        if (contentSize !== undefined && contentSize > into.length - filled)
          throw notACluster(`holds more than ${into.length} bytes`);
        if (kind === 'data') {
          const room = into.subarray(filled);
          filled += await engine
            .decodeFrame(stream.subarray(at, end), room, contentSize)
            .catch((cause: unknown) => Promise.reject(notACluster('is damaged', cause)));
        }
        at = end;
      }
    },

    encode: (cluster, into, level = DEFAULT_LEVEL) => engine.encodeFrame(cluster, into, level),
  };
}

/** The frame at the start of each stream, if it says that it holds `length` bytes; undefined unless all do. */
function wholeFrames(streams: readonly Uint8Array[], length: number): readonly Uint8Array[] | undefined {
  const frames: Uint8Array[] = [];
  for (const stream of streams) {
    const frame = frameAt(stream, 0);
    if (frame?.kind !== 'data' || frame.contentSize !== length) return undefined;
    frames.push(stream.subarray(0, frame.end));
  }
  return frames;
}

/** Frames that follow each other in memory, `length` bytes in all; undefined if they do not. */
function asOne(frames: readonly Uint8Array[], length: number): Uint8Array | undefined {
  const [first] = frames as readonly [Uint8Array];
  let end = first.byteOffset;
  for (const { buffer, byteOffset, length: more } of frames) {
    if (buffer !== first.buffer || byteOffset !== end) return undefined;
    end += more;
  }
  return new Uint8Array(first.buffer, first.byteOffset, length);
}

/** `into`, filled with the frames. */
function joined(frames: readonly Uint8Array[], into: Uint8Array): Uint8Array {
  let filled = 0;
  for (const frame of frames) {
    into.set(frame, filled);
    filled += frame.length;
  }
  return into;
}

/** The codec of the best engine that this host has. @throws {DiskError} not-supported */
export async function zstdCodec(): Promise<Codec> {
  return zstdCodecOf(await bestEngine());
}

async function bestEngine(): Promise<ZstdEngine> {
  const library = await (await import('./zstd-library.ts')).libraryEngine();
  if (library !== undefined) return library;
  const inNode = (await import('./zstd-node.ts')).nodeEngine();
  if (inNode !== undefined) return inNode;
  try {
    return await (await import('./zstd-wasm.ts')).wasmEngine();
  } catch (cause) {
    throw new DiskError('not-supported', 'zstd needs Node 22.15, libzstd or the package @bokuweb/zstd-wasm', {
      cause,
    });
  }
}
