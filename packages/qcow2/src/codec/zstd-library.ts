/**
 * zstd by the system's own library, which most Linux systems cannot do without: their package managers use it.
 * Called through koffi, in the thread pool.
 *
 * A context is made for each job that runs at the same time, and kept: making one for every cluster would cost
 * as much as decoding it. The functions are of the library's stable interface.
 *
 * Spec: zstd.h, "Explicit context".
 */
import { inThreadPool } from './codec.ts';
import type { ZstdEngine } from './zstd.ts';

type Koffi = typeof import('koffi');

/** Frames up to this length are decoded at once: that takes less than the way to a thread and back. */
const SHORT_FRAME = 1024;
/** A thread of the pool calls the library while the caller's buffers are kept alive here. */
type Call = (...values: unknown[]) => Promise<number>;

interface Library {
  readonly createEncoder: () => unknown;
  readonly createDecoder: () => unknown;
  readonly compress: Call;
  readonly decompress: Call;
  readonly decompressNow: (...values: unknown[]) => number;
}

let loading: Promise<ZstdEngine | undefined> | undefined;

/** The engine; undefined where there is no such library. */
export function libraryEngine(): Promise<ZstdEngine | undefined> {
  loading ??= import('koffi').then(bind, () => undefined).then((library) => library && engineOf(library));
  return loading;
}

function bind(koffi: Koffi): Library | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    const library = koffi.load('libzstd.so.1');
    // Results are size_t, and errors small negative numbers in it.
    const compress = library.func('ZSTD_compressCCtx', 'int64', [
      'void *',
      'void *',
      'size_t',
      'void *',
      'size_t',
      'int',
    ]);
    const decompress = library.func('ZSTD_decompressDCtx', 'int64', [
      'void *',
      'void *',
      'size_t',
      'void *',
      'size_t',
    ]);
    return {
      createEncoder: library.func('ZSTD_createCCtx', 'void *', []),
      createDecoder: library.func('ZSTD_createDCtx', 'void *', []),
      compress: calling(compress),
      decompress: calling(decompress),
      decompressNow: decompress,
    };
  } catch {
    return undefined;
  }
}

function calling(call: { readonly async: (...values: unknown[]) => void }): Call {
  return (...values) =>
    inThreadPool(
      () =>
        new Promise((resolve, reject) => {
          call.async(...values, (error: unknown, result: number) => {
            if (error) reject(error);
            else resolve(result);
          });
        }),
    );
}

function engineOf(library: Library): ZstdEngine {
  const encoders: { readonly context: unknown; room: Uint8Array }[] = [];
  const decoders: unknown[] = [];
  return {
    async decodeFrame(frame, into) {
      const context = decoders.pop() ?? library.createDecoder();
      const decode = frame.length <= SHORT_FRAME ? library.decompressNow : library.decompress;
      try {
        return checked(await decode(context, into, into.length, frame, frame.length));
      } finally {
        decoders.push(context);
      }
    },

    async encodeFrame(bytes, level) {
      const encoder = encoders.pop() ?? { context: library.createEncoder(), room: new Uint8Array(0) };
      // As much as incompressible bytes take: with less room the library would have to look out for the end.
      const most = bytes.length + Math.ceil(bytes.length / 256) + 64;
      if (encoder.room.length < most) encoder.room = new Uint8Array(most);
      const { context, room } = encoder;
      try {
        return room.slice(
          0,
          checked(await library.compress(context, room, most, bytes, bytes.length, level)),
        );
      } finally {
        encoders.push(encoder);
      }
    },
  };
}

function checked(result: number): number {
  if (result < 0) throw new Error(`libzstd: error ${-result}`);
  return result;
}
