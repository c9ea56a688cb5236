/**
 * zstd by the system's own library, which most Linux systems cannot do without: their package managers use it.
 * Called through koffi, in the thread pool.
 *
 * A context is made for each job that runs at the same time, and kept: making one for every cluster would cost
 * as much as decoding it. The functions are of the library's stable interface.
 *
 * Spec: zstd.h, "Explicit context".
 */
import { availableParallelism } from 'node:os';
import { inThreadPool } from './codec.ts';
import type { ZstdEngine } from './zstd.ts';

type Koffi = typeof import('koffi');

/** Frames up to this length are decoded at once: that takes less than the way to a thread and back. */
const SHORT_FRAME = 1024;
/**
 * Of longer ones the event loop decodes its share, one for each processor: the way to a thread takes as long as
 * decoding half a cluster, and the threads have what was decoded to write.
 */
const SHARE = availableParallelism();
/** Larger clusters would hold up everything else. */
const LONGEST_HERE = 128 * 1024;
/** The result that says that there was not room enough. */
const TOO_SMALL = -70;
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
  const encoders: unknown[] = [];
  const decoders: unknown[] = [];
  let decoded = 0;
  return {
    async decodeFrame(frame, into) {
      const context = decoders.pop() ?? library.createDecoder();
      const isMine = into.length <= LONGEST_HERE && ++decoded % SHARE === 0;
      const isHere = isMine || frame.length <= SHORT_FRAME;
      const decode = isHere ? library.decompressNow : library.decompress;
      try {
        return checked(await decode(context, into, into.length, frame, frame.length));
      } finally {
        decoders.push(context);
      }
    },

    async encodeFrame(bytes, into, level) {
      const context = encoders.pop() ?? library.createEncoder();
      const room = bytes.length - 1;
      try {
        const length = await library.compress(context, into, room, bytes, bytes.length, level);
        return length === TOO_SMALL ? 0 : checked(length);
      } finally {
        encoders.push(context);
      }
    },
  };
}

function checked(result: number): number {
  if (result < 0) throw new Error(`libzstd: error ${-result}`);
  return result;
}
