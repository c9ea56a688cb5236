/**
 * The payload of a BLOCK_STATUS chunk: runs of equal status, one after the other. And, with extended headers, the
 * payload of a BLOCK_STATUS request that asks for some contexts only.
 *
 * Spec: proto.md, "Structured reply types", NBD_REPLY_TYPE_BLOCK_STATUS; of the branch extension-ext-header,
 * NBD_REPLY_TYPE_BLOCK_STATUS_EXT and "Request types", NBD_CMD_BLOCK_STATUS
 */
import { DiskError } from '@strata/block';
import { WireReader } from '../wire/reader.ts';
import { type ReplyStyle, writeOffset } from './reply.ts';

/** The layout of a chunk in one style of replies. */
export interface StatusLayout {
  /** What stands before the descriptors. */
  readonly header: number;
  /** One descriptor. */
  readonly extent: number;
}

const compactLayout: StatusLayout = { header: 4, extent: 8 };
const extendedLayout: StatusLayout = { header: 8, extent: 16 };

/** How chunks of a style are laid out. */
export function statusLayout(style: ReplyStyle): StatusLayout {
  return style === 'extended' ? extendedLayout : compactLayout;
}

/** Encodes what stands before `count` descriptors at `at`, and returns where they begin. */
export function writeStatusHeader(
  style: ReplyStyle,
  into: Buffer,
  at: number,
  contextId: number,
  count: number,
): number {
  into.writeUInt32BE(contextId, at);
  if (style === 'extended') into.writeUInt32BE(count, at + 4);
  return at + statusLayout(style).header;
}

/** Encodes one descriptor at `at`, and returns where the next one begins. */
export function writeStatusExtent(
  style: ReplyStyle,
  into: Buffer,
  at: number,
  length: number,
  flags: number,
): number {
  if (style === 'extended') {
    writeOffset(into, at, length);
    into.writeUInt32BE(0, at + 8);
    into.writeUInt32BE(flags >>> 0, at + 12);
    return at + extendedLayout.extent;
  }
  into.writeUInt32BE(length, at);
  into.writeUInt32BE(flags >>> 0, at + 4);
  return at + compactLayout.extent;
}

/** What a chunk says of one context: as many lengths (each at least 1) as flags, at least one. */
export interface BlockStatus {
  readonly contextId: number;
  readonly lengths: Uint32Array | Float64Array;
  readonly flags: Uint32Array | Float64Array;
}

/**
 * Two numbers a descriptor instead of an object each: a chunk may hold a million of them.
 * @throws {DiskError} protocol for no extent, half an extent, or one of length 0
 */
export function decodeBlockStatus(payload: Uint8Array): BlockStatus {
  const reader = new WireReader(payload, 'a block status chunk');
  const contextId = reader.u32();
  if (reader.left === 0 || reader.left % compactLayout.extent !== 0) {
    throw reader.error(`${reader.left} bytes are no list of extents`);
  }
  const count = reader.left / compactLayout.extent;
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

/**
 * The same of a chunk of the extended style.
 * @throws {DiskError} protocol as there, and for a count that does not fit; limit for a status above 2^53 - 1
 */
export function decodeExtendedBlockStatus(payload: Uint8Array): BlockStatus {
  const reader = new WireReader(payload, 'a block status chunk');
  const contextId = reader.u32();
  const count = reader.u32();
  if (count === 0 || reader.left !== count * extendedLayout.extent) {
    throw reader.error(`${reader.left} bytes are no list of ${count} extents`);
  }
  const lengths = new Float64Array(count);
  const flags = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    const length = reader.u32() * 0x1_0000_0000 + reader.u32();
    if (length === 0) throw reader.error('an extent is empty');
    const status = reader.u32() * 0x1_0000_0000 + reader.u32();
    if (status > Number.MAX_SAFE_INTEGER) throw new DiskError('limit', 'a status has more than 53 bits');
    lengths[index] = length;
    flags[index] = status;
  }
  return { contextId, lengths, flags };
}

/** What a BLOCK_STATUS request with a payload asks for. */
export interface StatusQuery {
  /** Bytes, as in a request header. */
  readonly length: number;
  readonly contextIds: readonly number[];
}

/** Bytes of the payload that asks for so many contexts. */
export function statusQueryLength(contexts: number): number {
  return 8 + 4 * contexts;
}

export function encodeStatusQuery({ length, contextIds }: StatusQuery): Buffer {
  const payload = Buffer.allocUnsafe(statusQueryLength(contextIds.length));
  writeOffset(payload, 0, length);
  contextIds.forEach((id, index) => void payload.writeUInt32BE(id, 8 + 4 * index));
  return payload;
}

/** Undefined: it is not well-formed, or asks for a context twice or for none. */
export function decodeStatusQuery(payload: Buffer): StatusQuery | undefined {
  const count = (payload.length - 8) / 4;
  if (!Number.isInteger(count) || count < 1) return undefined;
  const contextIds = Array.from({ length: count }, (_, index) => payload.readUInt32BE(8 + 4 * index));
  if (new Set(contextIds).size !== count) return undefined;
  const length = payload.readUInt32BE(0) * 0x1_0000_0000 + payload.readUInt32BE(4);
  return { length, contextIds };
}
