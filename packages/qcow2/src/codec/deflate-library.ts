/**
 * Inflating by libdeflate where the system has it: twice as fast as zlib, as it has the whole stream and all
 * of the room at hand.
 *
 * It tells only streams that hold exactly what was asked for. Whatever else it says of a stream is no verdict:
 * node:zlib then decides.
 *
 * Spec: libdeflate.h, "Decompression".
 */
import { SMALL } from './codec.ts';
import { loadSystemLibrary, type SystemLibrary } from './system-library.ts';

/** Fills all of `into` and resolves to true if the stream at the start of `stream` ends with it, and to false if not. */
export type InflateExactly = (stream: Uint8Array, into: Uint8Array) => Promise<boolean>;

let loading: Promise<InflateExactly | undefined> | undefined;

/** The function; undefined where there is no such library. */
export function libraryInflate(): Promise<InflateExactly | undefined> {
  loading ??= loadSystemLibrary('libdeflate.so.0').then((library) => library && bind(library));
  return loading;
}

function bind(library: SystemLibrary): InflateExactly | undefined {
  try {
    const decompress = library.onContext(
      'libdeflate_deflate_decompress',
      'libdeflate_alloc_decompressor',
      'int',
      ['void *', 'size_t', 'void *', 'size_t', 'void *'],
    );
    return async (stream, into) => {
      // Nowhere to put the length means that it must be that of the room.
      const values = [stream, stream.length, into, into.length, null];
      if (into.length <= SMALL) return decompress.now(...values) === 0;
      return (await decompress.inTurn(...values)) === 0;
    };
  } catch {
    return undefined;
  }
}
