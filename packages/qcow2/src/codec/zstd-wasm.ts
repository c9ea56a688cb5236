/**
 * zstd compiled to WebAssembly: for hosts with neither node:zlib's nor a system library.
 *
 * It runs in the event loop. The package makes room for what a frame says that it holds, so nobody but
 * zstd.ts may call it, which has compared that with the room there is.
 */
import type { ZstdEngine } from './zstd.ts';

/** Loads the engine. Rejects if the package is not installed. */
export async function wasmEngine(): Promise<ZstdEngine> {
  const { init, compress, decompress } = await import('@bokuweb/zstd-wasm');
  await init();
  return {
    async decodeFrame(frame, into, contentSize) {
      const bytes = decompress(frame, { defaultHeapSize: contentSize ?? into.length });
      into.set(bytes);
      return bytes.length;
    },
    async encodeFrame(bytes, into, level) {
      const frame = compress(bytes, level);
      if (frame.length >= bytes.length) return 0;
      into.set(frame);
      return frame.length;
    },
  };
}
