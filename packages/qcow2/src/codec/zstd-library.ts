/**
 * zstd by the system's own library, which most Linux systems cannot do without: their package managers use it.
 *
 * A context is made for each job that runs at the same time, and kept: making one for every cluster would cost
 * as much as decoding it. The functions are of the library's stable interface.
 *
 * Spec: zstd.h, "Explicit context".
 */
import {
  isTurnOfEventLoop,
  loadSystemLibrary,
  type NativeCall,
  type SystemLibrary,
} from './system-library.ts';
import type { ZstdEngine } from './zstd.ts';

/** Frames up to this length are decoded at once: that takes less than the way to a thread and back. */
const SHORT_FRAME = 1024;
/** The result that says that there was not room enough. */
const TOO_SMALL = -70;

interface Library {
  readonly createEncoder: () => unknown;
  readonly createDecoder: () => unknown;
  readonly compress: NativeCall;
  readonly decompress: NativeCall;
}

let loading: Promise<ZstdEngine | undefined> | undefined;

/** The engine; undefined where there is no such library. */
export function libraryEngine(): Promise<ZstdEngine | undefined> {
  loading ??= loadSystemLibrary('libzstd.so.1').then((library) => {
    const bound = library && bind(library);
    return bound && engineOf(bound);
  });
  return loading;
}

function bind(library: SystemLibrary): Library | undefined {
  const bytes = ['void *', 'size_t'];
  try {
    return {
      createEncoder: library.maker('ZSTD_createCCtx'),
      createDecoder: library.maker('ZSTD_createDCtx'),
      // Results are size_t, and errors small negative numbers in it.
      compress: library.function('ZSTD_compressCCtx', 'int64', ['void *', ...bytes, ...bytes, 'int']),
      decompress: library.function('ZSTD_decompressDCtx', 'int64', ['void *', ...bytes, ...bytes]),
    };
  } catch {
    return undefined;
  }
}

function engineOf({ createEncoder, createDecoder, compress, decompress }: Library): ZstdEngine {
  const encoders: unknown[] = [];
  const decoders: unknown[] = [];
  return {
    takesRuns: true,

    async decodeFrame(frame, into) {
      const context = decoders.pop() ?? createDecoder();
      const isHere = frame.length <= SHORT_FRAME || isTurnOfEventLoop(into.length);
      const values = [context, into, into.length, frame, frame.length];
      try {
        return checked(isHere ? decompress.now(...values) : await decompress.inTurn(...values));
      } finally {
        decoders.push(context);
      }
    },

    async encodeFrame(bytes, into, level) {
      const context = encoders.pop() ?? createEncoder();
      const room = bytes.length - 1;
      try {
        const length = await compress.inTurn(context, into, room, bytes, bytes.length, level);
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
