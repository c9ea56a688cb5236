/**
 * The messages of the handshake, both directions: greeting, client flags, option header, option reply header.
 *
 * What is inside options and their replies is in `options.ts`. Decoders take exactly the bytes of the
 * message and throw DiskError `protocol` where it breaks the specification.
 *
 * Spec: proto.md, "Oldstyle negotiation", "Newstyle negotiation" and "Fixed newstyle negotiation"
 */
import { DiskError } from '@strata/block';
import { WireReader } from '../wire/reader.ts';
import { WireWriter } from '../wire/writer.ts';
import { HandshakeMagic } from './numbers.ts';

/** The server's first message: two magic numbers and 16 bits of `HandshakeFlag`. */
export const greetingLength = 18;
export const clientFlagsLength = 4;
export const optionHeaderLength = 16;
export const optionReplyHeaderLength = 20;
/** The reserved zeros after the answer to EXPORT_NAME, unless NO_ZEROES was agreed on. */
export const reservedZeroes = 124;
/** Size and transmission flags, without the reserved zeros. */
export const exportNameReplyLength = 10;

/** The whole greeting of an oldstyle server: it tells of its export at once. */
export const oldstyleGreetingLength = 152;

/** What kind of server greets. The greeting of an oldstyle server goes on, and is not decoded further. */
export type Greeting =
  | { readonly style: 'newstyle'; readonly flags: number }
  | { readonly style: 'oldstyle' };

export function encodeGreeting(flags: number): Buffer {
  return new WireWriter().u64(HandshakeMagic.greeting).u64(HandshakeMagic.option).u16(flags).done();
}

/** @throws {DiskError} protocol if this is no NBD server */
export function decodeGreeting(bytes: Uint8Array): Greeting {
  const reader = new WireReader(bytes, 'the greeting of the server');
  if (reader.u64() !== HandshakeMagic.greeting) throw reader.error('this is not an NBD server');
  const magic = reader.u64();
  if (magic === HandshakeMagic.oldstyle) return { style: 'oldstyle' };
  if (magic !== HandshakeMagic.option) throw reader.error(`unknown magic number 0x${magic.toString(16)}`);
  return { style: 'newstyle', flags: reader.u16() };
}

/** Takes the `oldstyleGreetingLength` bytes of an oldstyle server. @throws {DiskError} limit if its export is too large */
export function decodeOldstyleGreeting(bytes: Uint8Array): ExportSummary {
  const reader = new WireReader(bytes.subarray(16), 'the greeting of the server');
  const size = decodeSize(reader.u64());
  // Of 32 bits of flags, the upper half belongs to the handshake that there is none of.
  return { size, flags: reader.u32() & 0xffff };
}

export function encodeClientFlags(flags: number): Buffer {
  return new WireWriter().u32(flags).done();
}

export function decodeClientFlags(bytes: Uint8Array): number {
  return new WireReader(bytes, 'the flags of the client').u32();
}

/** What stands before the data of an option. */
export interface OptionHeader {
  readonly option: number;
  /** Bytes of data that follow; the peer's word, not to be trusted. */
  readonly length: number;
}

/** A whole option. */
export function encodeOption(option: number, data: Uint8Array = new Uint8Array()): Buffer {
  return new WireWriter().u64(HandshakeMagic.option).u32(option).u32(data.length).bytes(data).done();
}

/** @throws {DiskError} protocol if the magic number is wrong: the stream cannot be followed any further */
export function decodeOptionHeader(bytes: Uint8Array): OptionHeader {
  const reader = new WireReader(bytes, 'an option');
  const magic = reader.u64();
  if (magic !== HandshakeMagic.option) throw reader.error(`wrong magic number 0x${magic.toString(16)}`);
  return { option: reader.u32(), length: reader.u32() };
}

/** What stands before the data of an option reply. */
export interface OptionReplyHeader {
  /** The option that is answered. */
  readonly option: number;
  /** One of `OptionReply`, or unknown. */
  readonly type: number;
  /** Bytes of data that follow; the peer's word, not to be trusted. */
  readonly length: number;
}

/** A whole option reply. */
export function encodeOptionReply(option: number, type: number, data: Uint8Array = new Uint8Array()): Buffer {
  const writer = new WireWriter().u64(HandshakeMagic.optionReply).u32(option).u32(type);
  return writer.u32(data.length).bytes(data).done();
}

/** @throws {DiskError} protocol if the magic number is wrong */
export function decodeOptionReplyHeader(bytes: Uint8Array): OptionReplyHeader {
  const reader = new WireReader(bytes, 'an option reply');
  const magic = reader.u64();
  if (magic !== HandshakeMagic.optionReply) throw reader.error(`wrong magic number 0x${magic.toString(16)}`);
  return { option: reader.u32(), type: reader.u32(), length: reader.u32() };
}

/** True if an option reply of this type is an error, known or not. */
export function isErrorReply(type: number): boolean {
  return type >= 0x8000_0000;
}

/** The size and flags of an export. */
export interface ExportSummary {
  readonly size: number;
  /** Of `TransmissionFlag`. */
  readonly flags: number;
}

/** The answer to EXPORT_NAME. */
export function encodeExportNameReply(summary: ExportSummary, options: { zeroes: boolean }): Buffer {
  const writer = new WireWriter().u64(BigInt(summary.size)).u16(summary.flags);
  if (options.zeroes) writer.bytes(new Uint8Array(reservedZeroes));
  return writer.done();
}

/** Takes the first `exportNameReplyLength` bytes. @throws {DiskError} limit if the export is too large */
export function decodeExportNameReply(bytes: Uint8Array): ExportSummary {
  const reader = new WireReader(bytes, 'the reply to EXPORT_NAME');
  return { size: decodeSize(reader.u64()), flags: reader.u16() };
}

/** A size on the wire as a number. @throws {DiskError} limit above 2^53 - 1 */
export function decodeSize(size: bigint): number {
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new DiskError('limit', `an export of ${size} bytes is larger than ${Number.MAX_SAFE_INTEGER}`);
  }
  return Number(size);
}
