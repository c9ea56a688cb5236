/**
 * zstd by node:zlib, which has it from Node 22.15 on.
 */
import { inThreadPool } from './jobs.ts';
import type { ZstdEngine } from './zstd.ts';

/** The part of node:zlib that older versions and their types lack. */
interface ZstdInNode {
  readonly constants: { readonly ZSTD_c_compressionLevel: number };
  readonly zstdCompress: Transform;
  readonly zstdDecompress: Transform;
}
type Transform = (
  bytes: Uint8Array,
  options: object,
  callback: (error: Error | null, bytes: Uint8Array) => void,
) => void;

/** Room behind what is expected, so that output never ends with its buffer: Node would ask for more. */
const SPARE = 64;

/** The engine; undefined where Node is too old. */
export function nodeEngine(): ZstdEngine | undefined {
  const zlib = process.getBuiltinModule('node:zlib') as unknown as Partial<ZstdInNode>;
  const { constants, zstdCompress, zstdDecompress } = zlib;
  if (constants === undefined || zstdCompress === undefined || zstdDecompress === undefined) return undefined;
  return {
    async decodeFrame(frame, into) {
      const options = { chunkSize: into.length + SPARE, maxOutputLength: into.length };
      const bytes = await transform(zstdDecompress, frame, options);
      into.set(bytes);
      return bytes.length;
    },

    async encodeFrame(bytes, into, level) {
      const frame = await transform(zstdCompress, bytes, {
        chunkSize: bytes.length + Math.ceil(bytes.length / 256) + SPARE,
        pledgedSrcSize: bytes.length,
        params: { [constants.ZSTD_c_compressionLevel]: level },
      });
      if (frame.length >= bytes.length) return 0;
      into.set(frame);
      return frame.length;
    },
  };
}

function transform(call: Transform, bytes: Uint8Array, options: object): Promise<Uint8Array> {
  return inThreadPool((done) => call(bytes, options, done));
}
