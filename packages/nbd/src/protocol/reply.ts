/**
 * Replies of the transmission phase: simple replies, structured and extended chunks, and what error and read chunks hold.
 *
 * Written and read in place at a position of a larger buffer. Chunks of block status are in `extents.ts`.
 *
 * Spec: proto.md, "Simple reply message", "Structured reply chunk message", "Structured reply types"; "Extended reply
 * chunk message" of the branch extension-ext-header
 */
import { DiskError } from '@strata/block';
import { WireReader } from '../wire/reader.ts';
import { Magic, ReplyType } from './numbers.ts';

export const simpleReplyLength = 16;
const chunkHeaderLength = 20;
export const extendedChunkHeaderLength = 32;

/** How a server replies: what the two sides have agreed on. Chunks hold the same in both styles that have them. */
export type ReplyStyle = 'simple' | 'structured' | 'extended';

/** Bytes of the header of a chunk. */
export function chunkHeaderLengthOf(style: ReplyStyle): number {
  return style === 'extended' ? extendedChunkHeaderLength : chunkHeaderLength;
}

/** What stands before the bytes in the payload of an OFFSET_DATA chunk. */
export const offsetDataHeaderLength = 8;
/** The whole payload of an OFFSET_HOLE chunk. */
export const offsetHoleLength = 12;

/** The two halves of the cookie that a reply belongs to. */
export interface Cookie {
  readonly cookieHigh: number;
  readonly cookieLow: number;
}

/** Encodes a simple reply at `at`. `error` is an `NbdErrno`, or 0. */
export function writeSimpleReply(into: Buffer, at: number, error: number, cookie: Cookie): void {
  into.writeUInt32BE(Magic.simpleReply, at);
  into.writeUInt32BE(error, at + 4);
  into.writeUInt32BE(cookie.cookieHigh, at + 8);
  into.writeUInt32BE(cookie.cookieLow, at + 12);
}

/** Encodes the header of a structured chunk at `at`. */
export function writeChunkHeader(
  into: Buffer,
  at: number,
  flags: number,
  type: number,
  cookie: Cookie,
  length: number,
): void {
  into.writeUInt32BE(Magic.structuredReply, at);
  into.writeUInt16BE(flags, at + 4);
  into.writeUInt16BE(type, at + 6);
  into.writeUInt32BE(cookie.cookieHigh, at + 8);
  into.writeUInt32BE(cookie.cookieLow, at + 12);
  into.writeUInt32BE(length, at + 16);
}

/** The request that a chunk belongs to: its cookie, and its offset for the extended style. */
export interface Answered extends Cookie {
  readonly offsetHigh: number;
  readonly offsetLow: number;
}

/** Encodes the header of a chunk of either style at `at`, and returns where its payload begins. */
export function writeChunkHeaderOf(
  style: ReplyStyle,
  into: Buffer,
  at: number,
  flags: number,
  type: number,
  request: Answered,
  length: number,
): number {
  if (style !== 'extended') {
    writeChunkHeader(into, at, flags, type, request, length);
    return at + chunkHeaderLength;
  }
  into.writeUInt32BE(Magic.extendedReply, at);
  into.writeUInt16BE(flags, at + 4);
  into.writeUInt16BE(type, at + 6);
  into.writeUInt32BE(request.cookieHigh, at + 8);
  into.writeUInt32BE(request.cookieLow, at + 12);
  into.writeUInt32BE(request.offsetHigh, at + 16);
  into.writeUInt32BE(request.offsetLow, at + 20);
  into.writeUInt32BE(0, at + 24);
  into.writeUInt32BE(length, at + 28);
  return at + extendedChunkHeaderLength;
}

/** An offset or size of 64 bits at `at`. */
export function writeOffset(into: Buffer, at: number, offset: number): void {
  into.writeUInt32BE(Math.floor(offset / 0x1_0000_0000), at);
  into.writeUInt32BE(offset % 0x1_0000_0000, at + 4);
}

/** The offset at `at`; above 2^53 - 1 it is the nearest double, which still is above. */
export function readOffset(from: Buffer, at: number): number {
  return from.readUInt32BE(at) * 0x1_0000_0000 + from.readUInt32BE(at + 4);
}

/** A decoded reply header; `length` and `type` are 0 in a simple one. */
export interface ReplyHeader {
  style: ReplyStyle;
  /** Of a simple reply. */
  error: number;
  flags: number;
  type: number;
  cookieHigh: number;
  cookieLow: number;
  /** Of an extended one: the offset of the request, as in `RequestHeader`. */
  offset: number;
  length: number;
}

/** A header to decode into. */
export function newReplyHeader(): ReplyHeader {
  return { style: 'simple', offset: 0, error: 0, flags: 0, type: 0, cookieHigh: 0, cookieLow: 0, length: 0 };
}

/**
 * Decodes the header that stands at `at`, where `available` bytes are. Returns its length, or 0 if it is not
 * complete yet; of `header` then nothing is of use but, from `simpleReplyLength` bytes on, style and cookie.
 * @throws {DiskError} protocol if the magic number is wrong
 */
export function readReplyHeader(from: Buffer, at: number, available: number, header: ReplyHeader): number {
  if (available < simpleReplyLength) return 0;
  const magic = from.readUInt32BE(at);
  header.cookieHigh = from.readUInt32BE(at + 8);
  header.cookieLow = from.readUInt32BE(at + 12);
  if (magic === Magic.simpleReply) {
    header.style = 'simple';
    header.error = from.readUInt32BE(at + 4);
    header.flags = header.type = header.length = 0;
    return simpleReplyLength;
  }
  if (magic === Magic.extendedReply) return readExtendedHeader(from, at, available, header);
  if (magic !== Magic.structuredReply) {
    throw new DiskError('protocol', `a reply has the wrong magic number 0x${magic.toString(16)}`);
  }
  header.style = 'structured';
  if (available < chunkHeaderLength) return 0;
  header.error = 0;
  header.flags = from.readUInt16BE(at + 4);
  header.type = from.readUInt16BE(at + 6);
  header.length = from.readUInt32BE(at + 16);
  return chunkHeaderLength;
}

function readExtendedHeader(from: Buffer, at: number, available: number, header: ReplyHeader): number {
  header.style = 'extended';
  if (available < extendedChunkHeaderLength) return 0;
  header.error = 0;
  header.flags = from.readUInt16BE(at + 4);
  header.type = from.readUInt16BE(at + 6);
  header.offset = readOffset(from, at + 16);
  header.length = readOffset(from, at + 24);
  return extendedChunkHeaderLength;
}

/**
 * The payload of an ERROR chunk, or with an offset of an ERROR_OFFSET chunk. `error` is an `NbdErrno` and
 * never 0.
 */
export function encodeErrorPayload(error: number, message: string, offset?: number): Buffer {
  const text = Buffer.from(message, 'utf8');
  const payload = Buffer.allocUnsafe(6 + text.length + (offset === undefined ? 0 : 8));
  payload.writeUInt32BE(error, 0);
  payload.writeUInt16BE(text.length, 4);
  text.copy(payload, 6);
  if (offset !== undefined) writeOffset(payload, 6 + text.length, offset);
  return payload;
}

/** What an error chunk says. */
export interface ErrorPayload {
  readonly error: number;
  /** The peer's text, empty if it sent none. */
  readonly message: string;
  /** Of an ERROR_OFFSET chunk. */
  readonly offset: number | undefined;
}

/**
 * The payload of an error chunk of any type; of unknown ones, what all types have in common.
 * @throws {DiskError} protocol
 */
export function decodeErrorPayload(payload: Uint8Array, type: number): ErrorPayload {
  const reader = new WireReader(payload, 'an error chunk');
  const error = reader.u32();
  if (error === 0) throw reader.error('its error number is 0');
  const message = reader.string(reader.u16());
  if (type === ReplyType.errorOffset) return { error, message, offset: Number(reader.u64()) };
  return { error, message, offset: undefined };
}

/** True if a chunk of this type is an error, known or not. */
export function isErrorType(type: number): boolean {
  return (type & 0x8000) !== 0;
}
