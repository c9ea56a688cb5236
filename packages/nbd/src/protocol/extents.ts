/**
 * The payload of a BLOCK_STATUS chunk: runs of equal status, one after the other.
 *
 * Spec: proto.md, "Structured reply types", NBD_REPLY_TYPE_BLOCK_STATUS
 */
import { WireReader } from '../wire/reader.ts';

/** The identifier of the context, before the descriptors. */
export const statusHeaderLength = 4;
/** One descriptor. */
export const statusExtentLength = 8;

/** Encodes one descriptor at `at`. */
export function writeStatusExtent(into: Buffer, at: number, length: number, flags: number): void {
  into.writeUInt32BE(length, at);
  into.writeUInt32BE(flags >>> 0, at + 4);
}

/** What a chunk says of one context: as many lengths (each at least 1) as flags, at least one. */
export interface BlockStatus {
  readonly contextId: number;
  readonly lengths: Uint32Array;
  readonly flags: Uint32Array;
}

/**
 * Two numbers a descriptor instead of an object each: a chunk may hold a million of them.
 * @throws {DiskError} protocol for no extent, half an extent, or one of length 0
 */
export function decodeBlockStatus(payload: Uint8Array): BlockStatus {
  const reader = new WireReader(payload, 'a block status chunk');
  const contextId = reader.u32();
  if (reader.left === 0 || reader.left % statusExtentLength !== 0) {
    throw reader.error(`${reader.left} bytes are no list of extents`);
  }
  const count = reader.left / statusExtentLength;
  const lengths = new Uint32Array(count);
  const flags = new Uint32Array(count);
  for (let index = 0; index < count; index++) {
    const length = reader.u32();
    if (length === 0) throw reader.error('an extent is empty');
    lengths[index] = length;
    flags[index] = reader.u32();
  }
  return { contextId, lengths, flags };
}
