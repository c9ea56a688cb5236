/**
 * The header of a request of the transmission phase, compact or extended.
 *
 * Headers are read and written in place, at a position of a larger buffer, into and out of one object that
 * is used again and again: at half a million requests a second an object each is what costs.
 *
 * Spec: proto.md, "Request message"; of the branch extension-ext-header for the extended form
 */
import { Magic } from './numbers.ts';

export const requestHeaderLength = 28;
export const extendedRequestHeaderLength = 32;

/** One request. A cookie is opaque 64 bits, kept as two halves. */
export interface RequestHeader {
  /** Of `CommandFlag`. */
  flags: number;
  /** Of `Command`, or unknown. */
  command: number;
  cookieHigh: number;
  cookieLow: number;
  /** Bytes. A value above 2^53 - 1 is decoded to the nearest double, which still is above 2^53 - 1. */
  offset: number;
  /** Bytes, as `offset`. With `CommandFlag.payloadLength`, those of the payload. */
  length: number;
  /** The two halves of `offset`, which extended replies repeat. */
  offsetHigh: number;
  offsetLow: number;
}

/** A header to decode into. */
export function newRequestHeader(): RequestHeader {
  return {
    flags: 0,
    command: 0,
    cookieHigh: 0,
    cookieLow: 0,
    offset: 0,
    length: 0,
    offsetHigh: 0,
    offsetLow: 0,
  };
}

/** Decodes the header that stands at `at`. False: the magic number is wrong, and `header` is unchanged. */
export function readRequestHeader(from: Buffer, at: number, header: RequestHeader): boolean {
  if (from.readUInt32BE(at) !== Magic.request) return false;
  readCommon(from, at, header);
  header.length = from.readUInt32BE(at + 24);
  return true;
}

/** As `readRequestHeader`, for the extended form. */
export function readExtendedRequestHeader(from: Buffer, at: number, header: RequestHeader): boolean {
  if (from.readUInt32BE(at) !== Magic.extendedRequest) return false;
  readCommon(from, at, header);
  header.length = from.readUInt32BE(at + 24) * 0x1_0000_0000 + from.readUInt32BE(at + 28);
  return true;
}

function readCommon(from: Buffer, at: number, header: RequestHeader): void {
  header.flags = from.readUInt16BE(at + 4);
  header.command = from.readUInt16BE(at + 6);
  header.cookieHigh = from.readUInt32BE(at + 8);
  header.cookieLow = from.readUInt32BE(at + 12);
  header.offsetHigh = from.readUInt32BE(at + 16);
  header.offsetLow = from.readUInt32BE(at + 20);
  header.offset = header.offsetHigh * 0x1_0000_0000 + header.offsetLow;
}

/** What a client says of a request. */
export type RequestToSend = Readonly<Omit<RequestHeader, 'offsetHigh' | 'offsetLow'>>;

/** Encodes a header at `at`. */
export function writeRequestHeader(into: Buffer, at: number, header: RequestToSend): void {
  into.writeUInt32BE(Magic.request, at);
  writeCommon(into, at, header);
  into.writeUInt32BE(header.length, at + 24);
}

/** Encodes an extended header at `at`. */
export function writeExtendedRequestHeader(into: Buffer, at: number, header: RequestToSend): void {
  into.writeUInt32BE(Magic.extendedRequest, at);
  writeCommon(into, at, header);
  into.writeUInt32BE(Math.floor(header.length / 0x1_0000_0000), at + 24);
  into.writeUInt32BE(header.length % 0x1_0000_0000, at + 28);
}

function writeCommon(into: Buffer, at: number, header: RequestToSend): void {
  into.writeUInt16BE(header.flags, at + 4);
  into.writeUInt16BE(header.command, at + 6);
  into.writeUInt32BE(header.cookieHigh, at + 8);
  into.writeUInt32BE(header.cookieLow, at + 12);
  into.writeUInt32BE(Math.floor(header.offset / 0x1_0000_0000), at + 16);
  into.writeUInt32BE(header.offset % 0x1_0000_0000, at + 20);
}
