/**
 * zstd by the system's own library, which most Linux systems cannot do without: their package managers use it.
 *
 * The functions are of the library's stable interface. Making a context for every cluster would cost as much as
 * decoding it, so they are kept.
 *
 * Spec: zstd.h, "Explicit context".
 */
import { type ContextCall, loadSystemLibrary, type SystemLibrary } from './system-library.ts';
import type { ZstdEngine } from './zstd.ts';

/** Frames up to this length are decoded at once: that takes less than the way to a thread and back. */
const SHORT_FRAME = 1024;
/** The result that says that there was not room enough. */
const TOO_SMALL = -70;

interface Library {
  readonly compress: ContextCall;
  readonly decompress: ContextCall;
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
      // Results are size_t, and errors small negative numbers in it.
      compress: library.onContext('ZSTD_compressCCtx', 'ZSTD_createCCtx', 'int64', [
        ...bytes,
        ...bytes,
        'int',
      ]),
      decompress: library.onContext('ZSTD_decompressDCtx', 'ZSTD_createDCtx', 'int64', [...bytes, ...bytes]),
    };
  } catch {
    return undefined;
  }
}

function engineOf({ compress, decompress }: Library): ZstdEngine {
  return {
    takesRuns: true,

    async decodeFrame(frame, into) {
      const values = [into, into.length, frame, frame.length];
      if (frame.length <= SHORT_FRAME) return checked(decompress.now(...values));
      return checked(await decompress.inTurn(...values));
    },

    async encodeFrame(bytes, into, level) {
      const length = await compress.inTurn(into, bytes.length - 1, bytes, bytes.length, level);
      return length === TOO_SMALL ? 0 : checked(length);
    },
  };
}

function checked(result: number): number {
  if (result < 0) throw new Error(`libzstd: error ${-result}`);
  return result;
}
