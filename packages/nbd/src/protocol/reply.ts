/**
 * Replies of the transmission phase: simple replies, structured chunks, and what error and read chunks hold.
 *
 * Written and read in place at a position of a larger buffer. Chunks of block status are in `extents.ts`.
 *
 * Spec: proto.md, "Simple reply message", "Structured reply chunk message", "Structured reply types"
 */
import { DiskError } from '@strata/block';
import { WireReader } from '../wire/reader.ts';
import { Magic, ReplyType } from './numbers.ts';

export const simpleReplyLength = 16;
export const chunkHeaderLength = 20;
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

/** An offset or size of 64 bits at `at`. */
export function writeOffset(into: Buffer, at: number, offset: number): void {
  into.writeUInt32BE(Math.floor(offset / 0x1_0000_0000), at);
  into.writeUInt32BE(offset % 0x1_0000_0000, at + 4);
}

/** The offset at `at`; above 2^53 - 1 it is the nearest double, which still is above. */
export function readOffset(from: Buffer, at: number): number {
  return from.readUInt32BE(at) * 0x1_0000_0000 + from.readUInt32BE(at + 4);
}

/** A decoded reply header, simple or structured; `length` and `type` are 0 in a simple one. */
export interface ReplyHeader {
  structured: boolean;
  /** Of a simple reply. */
  error: number;
  flags: number;
  type: number;
  cookieHigh: number;
  cookieLow: number;
  length: number;
}

/** A header to decode into. */
export function newReplyHeader(): ReplyHeader {
  return { structured: false, error: 0, flags: 0, type: 0, cookieHigh: 0, cookieLow: 0, length: 0 };
}

/**
 * Decodes the header that stands at `at`, where `available` bytes are. Returns its length, or 0 if it is not
 * complete yet and `header` holds nothing of use.
 * @throws {DiskError} protocol if the magic number is wrong
 */
export function readReplyHeader(from: Buffer, at: number, available: number, header: ReplyHeader): number {
  if (available < simpleReplyLength) return 0;
  const magic = from.readUInt32BE(at);
  header.cookieHigh = from.readUInt32BE(at + 8);
  header.cookieLow = from.readUInt32BE(at + 12);
  if (magic === Magic.simpleReply) {
    header.structured = false;
    header.error = from.readUInt32BE(at + 4);
    header.flags = header.type = header.length = 0;
    return simpleReplyLength;
  }
  if (magic !== Magic.structuredReply) {
    throw new DiskError('protocol', `a reply has the wrong magic number 0x${magic.toString(16)}`);
  }
  if (available < chunkHeaderLength) return 0;
  header.structured = true;
  header.error = 0;
  header.flags = from.readUInt16BE(at + 4);
  header.type = from.readUInt16BE(at + 6);
  header.length = from.readUInt32BE(at + 16);
  return chunkHeaderLength;
}

/** The payload of an ERROR chunk. `error` is an `NbdErrno` and never 0. */
export function encodeErrorPayload(error: number, message: string): Buffer {
  const text = Buffer.from(message, 'utf8');
  const payload = Buffer.allocUnsafe(6 + text.length);
  payload.writeUInt32BE(error, 0);
  payload.writeUInt16BE(text.length, 4);
  text.copy(payload, 6);
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
  if (type === ReplyType.errorOffset) {
    const offset = Number(reader.u64());
    reader.end();
    return { error, message, offset };
  }
  if (type === ReplyType.error) reader.end();
  return { error, message, offset: undefined };
}

/** True if a chunk of this type is an error, known or not. */
export function isErrorType(type: number): boolean {
  return (type & 0x8000) !== 0;
}
