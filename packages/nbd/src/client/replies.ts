/**
 * Reads the replies of the transmission phase where they lie.
 *
 * Everything goes through one buffer, except that payloads go on to where they belong: what has come of a READ is
 * copied to the caller's buffer, and the rest is received there directly. While only large reads are in flight the
 * buffer is offered for headers alone, so that their bytes are not copied at all.
 *
 * A length is checked against the request before anything is made room for. Whatever breaks the protocol is
 * told to `ReplyTable.failed` once, and nothing after it is looked at. A server that speaks structured replies may
 * still answer with a simple one, except to a read.
 *
 * Spec: proto.md, "Simple reply message", "Structured reply chunk message"; "Extended reply chunk message" of the branch
 * extension-ext-header
 */
import { DiskError } from '@strata/block';
import {
  type BlockStatus,
  decodeBlockStatus,
  decodeExtendedBlockStatus,
  statusLayout,
} from '../protocol/extents.ts';
import { Command, ReplyFlag, ReplyType } from '../protocol/numbers.ts';
import {
  chunkHeaderLengthOf,
  decodeErrorPayload,
  isErrorType,
  newReplyHeader,
  offsetDataHeaderLength,
  offsetHoleLength,
  type ReplyStyle,
  readOffset,
  readReplyHeader,
  simpleReplyLength,
} from '../protocol/reply.ts';
import type { ByteSink } from './connect.ts';
import type { PendingRequest } from './request.ts';

/** Who knows the requests in flight. */
export interface ReplyTable {
  readonly style: ReplyStyle;
  /** Identifiers of the negotiated metadata contexts. */
  readonly contextIds: readonly number[];
  /** True while the next reply is surely that of a large read. */
  readonly onlyLargeReads: boolean;
  find(cookieHigh: number, cookieLow: number): PendingRequest | undefined;
  /** The request is answered, and its cookie is free. */
  finished(request: PendingRequest): void;
  /** The server broke the protocol. */
  failed(error: unknown): void;
  /** The connection ended. */
  ended(reason: DiskError): void;
}

/** A unix socket holds about 208 KiB. */
const bufferLength = 256 * 1024;
/** The rest of a payload that is worth a system call of its own. */
const directFrom = 16 * 1024;
/** Other payloads up to this length wait in the buffer until they are whole. */
const inlineLength = 64 * 1024;
const longestError = 64 * 1024;
/** Spec: "Structured reply types", NBD_REPLY_TYPE_BLOCK_STATUS */
const mostExtents = 2 ** 20;

/** See above. */
export class ReplyReader implements ByteSink {
  readonly #table: ReplyTable;
  /** Of chunks, and of chunks with bytes in them up to these. */
  readonly #headerLength: number;
  readonly #dataHeaderLength: number;
  readonly #statusType: number;
  readonly #longestStatus: number;
  readonly #buffer = Buffer.allocUnsafeSlow(bufferLength);
  /** What stands from `#start` to `#end` has been received and not read yet. */
  #start = 0;
  #end = 0;
  /** Bytes from `#start` without which there is no going on. */
  #needed = simpleReplyLength;
  readonly #header = newReplyHeader();
  /** The request that the payload under way belongs to; `#header` is the payload's. */
  #request: PendingRequest | undefined;
  #payload: Uint8Array | undefined;
  #payloadFilled = 0;
  #direct = false;
  #broken = false;

  constructor(table: ReplyTable) {
    this.#table = table;
    const { style } = table;
    this.#headerLength = chunkHeaderLengthOf(style);
    this.#dataHeaderLength = this.#headerLength + offsetDataHeaderLength;
    this.#statusType = style === 'extended' ? ReplyType.blockStatusExtended : ReplyType.blockStatus;
    const layout = statusLayout(style);
    this.#longestStatus = layout.header + layout.extent * mostExtents;
  }

  target(): Uint8Array {
    const sparing = this.#table.onlyLargeReads;
    const payload = this.#payload;
    this.#direct =
      payload !== undefined && payload.length - this.#payloadFilled >= (sparing ? 1 : directFrom);
    if (payload !== undefined && this.#direct) return payload.subarray(this.#payloadFilled);
    if (payload !== undefined || !sparing) return this.#buffer.subarray(this.#end);
    const usual = this.#table.style === 'simple' ? simpleReplyLength : this.#dataHeaderLength;
    const header = Math.max(this.#needed, usual);
    return this.#buffer.subarray(this.#end, this.#start + header);
  }

  received(count: number): void {
    if (this.#broken) return;
    if (this.#direct) this.#payloadFilled += count;
    else this.#end += count;
    try {
      while (this.#payload === undefined ? this.#message() : this.#fillPayload());
    } catch (error) {
      this.#broken = true;
      this.#start = this.#end = 0;
      this.#payload = undefined;
      this.#table.failed(error);
      return;
    }
    this.#makeRoom();
  }

  ended(reason: DiskError): void {
    this.#broken = true;
    this.#table.ended(reason);
  }

  /** Leaves half of the buffer free, which is more than may be needed. */
  #makeRoom(): void {
    if (this.#start === this.#end) this.#start = this.#end = 0;
    else if (this.#end > bufferLength / 2) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
  }

  /** False: more bytes are needed. */
  #fillPayload(): boolean {
    const payload = this.#payload as Uint8Array;
    const count = Math.min(payload.length - this.#payloadFilled, this.#end - this.#start);
    if (count > 0) {
      this.#buffer.copy(payload, this.#payloadFilled, this.#start, this.#start + count);
      this.#payloadFilled += count;
      this.#start += count;
    }
    if (this.#payloadFilled < payload.length) return false;
    this.#payload = undefined;
    this.#chunkEnds(payload);
    return true;
  }

  /** Reads one header and what is small after it. False: more bytes are needed. */
  #message(): boolean {
    const header = this.#header;
    const available = this.#end - this.#start;
    if (readReplyHeader(this.#buffer, this.#start, available, header) === 0) {
      if (available < simpleReplyLength) return this.#wait(simpleReplyLength);
      this.#checkStyle(header.style);
      return this.#wait(this.#headerLength);
    }
    const request = this.#table.find(header.cookieHigh, header.cookieLow);
    if (request === undefined) throw violation('a reply has a cookie that no request in flight has');
    this.#request = request;
    if (header.style === 'simple') return this.#simple(request);
    this.#checkStyle(header.style);
    if (header.style === 'extended' && header.offset !== request.parts.offset) {
      throw violation(`a reply for offset ${header.offset}`);
    }
    return this.#chunk(request, available);
  }

  /** Of a reply that is no simple one. */
  #checkStyle(style: ReplyStyle): void {
    if (style !== this.#table.style) throw violation(`a reply of the ${style} style, never agreed on`);
  }

  #simple(request: PendingRequest): boolean {
    const { error } = this.#header;
    const { command, offset, length } = request.parts;
    const { style } = this.#table;
    if (style === 'extended') throw violation('a simple reply, with extended headers');
    if (style !== 'simple' && command === Command.read) throw violation('a simple reply to a read');
    this.#start += simpleReplyLength;
    if (error !== 0) request.fail({ error, message: '', offset: undefined });
    else if (command === Command.blockStatus) throw violation('a simple reply to a block status');
    else if (command === Command.read) return this.#payloadInto(request.data(offset, length));
    this.#finish();
    return true;
  }

  #chunk(request: PendingRequest, available: number): boolean {
    const { type, length, flags } = this.#header;
    const { command } = request.parts;
    switch (type) {
      case ReplyType.none:
        if (length !== 0 || (flags & ReplyFlag.done) === 0)
          throw violation('a NONE chunk that is not the end');
        this.#start += this.#headerLength;
        this.#finish();
        return true;
      case ReplyType.offsetData: {
        const size = length - offsetDataHeaderLength;
        if (command !== Command.read || size < 1 || size > request.parts.length) throw misfit(type, length);
        if (available < this.#dataHeaderLength) return this.#wait(this.#dataHeaderLength);
        const into = request.data(readOffset(this.#buffer, this.#start + this.#headerLength), size);
        this.#start += this.#dataHeaderLength;
        return this.#payloadInto(into);
      }
      case ReplyType.offsetHole:
        if (command !== Command.read || length !== offsetHoleLength) throw misfit(type, length);
        break;
      case this.#statusType:
        if (command !== Command.blockStatus || length > this.#longestStatus) throw misfit(type, length);
        break;
      default:
        if (!isErrorType(type) || length > longestError) throw misfit(type, length);
    }
    if (length > inlineLength) {
      this.#start += this.#headerLength;
      return this.#payloadInto(Buffer.allocUnsafeSlow(length));
    }
    const whole = this.#headerLength + length;
    if (available < whole) return this.#wait(whole);
    this.#start += whole;
    this.#chunkEnds(this.#buffer.subarray(this.#start - length, this.#start));
    return true;
  }

  #wait(bytes: number): false {
    this.#needed = bytes;
    return false;
  }

  #payloadInto(into: Uint8Array): true {
    this.#payload = into;
    this.#payloadFilled = 0;
    return true;
  }

  /** The payload of the current message is here. */
  #chunkEnds(payload: Uint8Array): void {
    const request = this.#request as PendingRequest;
    const { style, type, flags } = this.#header;
    if (type === ReplyType.offsetHole) {
      const at = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
      request.hole(readOffset(at, 0), at.readUInt32BE(offsetDataHeaderLength));
    } else if (type === this.#statusType) {
      const status = decodeStatus(payload, style);
      if (!this.#table.contextIds.includes(status.contextId)) {
        throw violation(`block status for context ${status.contextId}, which was not negotiated`);
      }
      request.status(status);
    } else if (isErrorType(type)) {
      request.fail(decodeErrorPayload(payload, type));
    }
    if (style === 'simple' || (flags & ReplyFlag.done) !== 0) this.#finish();
  }

  #finish(): void {
    const request = this.#request as PendingRequest;
    this.#request = undefined;
    request.check(this.#table.contextIds.length);
    this.#table.finished(request);
  }
}

function decodeStatus(payload: Uint8Array, style: ReplyStyle): BlockStatus {
  return style === 'extended' ? decodeExtendedBlockStatus(payload) : decodeBlockStatus(payload);
}

function violation(message: string): DiskError {
  return new DiskError('protocol', message, { spec: 'proto.md, "Structured reply types"' });
}

function misfit(type: number, length: number): DiskError {
  return violation(`a chunk of type 0x${type.toString(16)} and length ${length} does not answer the request`);
}
