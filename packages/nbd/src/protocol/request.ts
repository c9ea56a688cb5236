/**
 * The header of a request of the transmission phase.
 *
 * Headers are read and written in place, at a position of a larger buffer, into and out of one object that
 * is used again and again: at half a million requests a second an object each is what costs.
 *
 * Spec: proto.md, "Request message"
 */
import { Magic } from './numbers.ts';

export const requestHeaderLength = 28;

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
  length: number;
}

/** A header to decode into. */
export function newRequestHeader(): RequestHeader {
  return { flags: 0, command: 0, cookieHigh: 0, cookieLow: 0, offset: 0, length: 0 };
}

/** Decodes the header that stands at `at`. False: the magic number is wrong, and `header` is unchanged. */
export function readRequestHeader(from: Buffer, at: number, header: RequestHeader): boolean {
  if (from.readUInt32BE(at) !== Magic.request) return false;
  header.flags = from.readUInt16BE(at + 4);
  header.command = from.readUInt16BE(at + 6);
  header.cookieHigh = from.readUInt32BE(at + 8);
  header.cookieLow = from.readUInt32BE(at + 12);
  header.offset = from.readUInt32BE(at + 16) * 0x1_0000_0000 + from.readUInt32BE(at + 20);
  header.length = from.readUInt32BE(at + 24);
  return true;
}

/** Encodes a header at `at`. */
export function writeRequestHeader(into: Buffer, at: number, header: Readonly<RequestHeader>): void {
  into.writeUInt32BE(Magic.request, at);
  into.writeUInt16BE(header.flags, at + 4);
  into.writeUInt16BE(header.command, at + 6);
  into.writeUInt32BE(header.cookieHigh, at + 8);
  into.writeUInt32BE(header.cookieLow, at + 12);
  into.writeUInt32BE(Math.floor(header.offset / 0x1_0000_0000), at + 16);
  into.writeUInt32BE(header.offset % 0x1_0000_0000, at + 20);
  into.writeUInt32BE(header.length, at + 24);
}
