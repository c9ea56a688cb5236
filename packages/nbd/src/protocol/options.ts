/**
 * What is inside the options of the handshake and inside their replies, both directions.
 *
 * Decoders take exactly the data of one message, as its header announced it, and throw DiskError `protocol`
 * where an inner length does not fit the outer one, or a string is none.
 *
 * Spec: proto.md, "Option types" and "Option reply types"
 */
import { WireReader } from '../wire/reader.ts';
import { WireWriter } from '../wire/writer.ts';
import { decodeSize, type ExportSummary } from './handshake.ts';
import { InfoType, maxStringLength } from './numbers.ts';

/** The data of INFO and GO. */
export interface GoRequest {
  readonly name: string;
  /** Of `InfoType`, or unknown. */
  readonly infos: readonly number[];
}

export function encodeGoRequest(request: GoRequest): Buffer {
  const writer = new WireWriter().lengthAndText(request.name).u16(request.infos.length);
  for (const info of request.infos) writer.u16(info);
  return writer.done();
}

/** @throws {DiskError} protocol */
export function decodeGoRequest(data: Uint8Array): GoRequest {
  const reader = new WireReader(data, 'the request');
  const name = reader.string(reader.u32());
  const count = reader.u16();
  if (reader.left !== count * 2) {
    throw reader.error(`${count} information requests announced, ${reader.left} bytes sent`);
  }
  return { name, infos: Array.from({ length: count }, () => reader.u16()) };
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export interface MetaContextRequest {
  readonly name: string;
  /** A query longer than any name may be can match nothing; the decoder leaves it out. */
  readonly queries: readonly string[];
}

export function encodeMetaContextRequest(request: MetaContextRequest): Buffer {
  const writer = new WireWriter().lengthAndText(request.name).u32(request.queries.length);
  for (const query of request.queries) writer.lengthAndText(query);
  return writer.done();
}

/** @throws {DiskError} protocol */
export function decodeMetaContextRequest(data: Uint8Array): MetaContextRequest & { readonly count: number } {
  const reader = new WireReader(data, 'the request');
  const name = reader.string(reader.u32());
  const count = reader.u32();
  const queries: string[] = [];
  for (let index = 0; index < count; index++) {
    const length = reader.u32();
    if (length > maxStringLength) reader.bytes(length);
    else queries.push(reader.string(length));
  }
  reader.end();
  return { name, queries, count };
}

/** The data of a SERVER reply: one line of a list of exports. */
export interface ServerReply {
  readonly name: string;
  readonly description: string | undefined;
}

export function encodeServerReply(reply: ServerReply): Buffer {
  return new WireWriter()
    .lengthAndText(reply.name)
    .text(reply.description ?? '')
    .done();
}

/** @throws {DiskError} protocol */
export function decodeServerReply(data: Uint8Array): ServerReply {
  const reader = new WireReader(data, 'a SERVER reply');
  const name = reader.string(reader.u32());
  return { name, description: reader.left === 0 ? undefined : reader.string(reader.left) };
}

/** The sizes that a server can bear. Spec: "Size constraints" */
export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximumPayload: number;
}

/** The data of an INFO reply. */
export type Info =
  | ({ readonly type: 'export' } & ExportSummary)
  | { readonly type: 'name'; readonly name: string }
  | { readonly type: 'description'; readonly description: string }
  | ({ readonly type: 'block-size' } & BlockSizes)
  | { readonly type: 'unknown' };

export function encodeInfo(info: Exclude<Info, { type: 'unknown' }>): Buffer {
  const writer = new WireWriter();
  switch (info.type) {
    case 'export':
      return writer.u16(InfoType.export).u64(BigInt(info.size)).u16(info.flags).done();
    case 'name':
      return writer.u16(InfoType.name).text(info.name).done();
    case 'description':
      return writer.u16(InfoType.description).text(info.description).done();
    case 'block-size':
      writer.u16(InfoType.blockSize).u32(info.minimum);
      return writer.u32(info.preferred).u32(info.maximumPayload).done();
  }
}

/**
 * Whether block sizes make sense together is the caller's to judge.
 * @throws {DiskError} protocol; limit for an export above 2^53 - 1 bytes
 */
export function decodeInfo(data: Uint8Array): Info {
  const reader = new WireReader(data, 'an INFO reply');
  const info = decodeInfoBody(reader, reader.u16());
  if (info.type !== 'unknown') reader.end();
  return info;
}

function decodeInfoBody(reader: WireReader, type: number): Info {
  switch (type) {
    case InfoType.export:
      return { type: 'export', size: decodeSize(reader.u64()), flags: reader.u16() };
    case InfoType.name:
      return { type: 'name', name: reader.string(reader.left) };
    case InfoType.description:
      return { type: 'description', description: reader.string(reader.left) };
    case InfoType.blockSize:
      return {
        type: 'block-size',
        minimum: reader.u32(),
        preferred: reader.u32(),
        maximumPayload: reader.u32(),
      };
    default:
      return { type: 'unknown' };
  }
}

/** The data of a META_CONTEXT reply. */
export interface MetaContextReply {
  readonly id: number;
  readonly name: string;
}

export function encodeMetaContextReply(reply: MetaContextReply): Buffer {
  return new WireWriter().u32(reply.id).text(reply.name).done();
}

/** @throws {DiskError} protocol */
export function decodeMetaContextReply(data: Uint8Array): MetaContextReply {
  const reader = new WireReader(data, 'a META_CONTEXT reply');
  return { id: reader.u32(), name: reader.string(reader.left) };
}
