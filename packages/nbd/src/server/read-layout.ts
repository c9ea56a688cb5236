/**
 * How the reply to a READ is divided into chunks of bytes and chunks of zeros, and laid out in a buffer.
 *
 * Headers and room for bytes stand behind each other, so that bytes are read straight into their places.
 * With simple replies, or DF, a reply is one piece; otherwise zeros travel as a number.
 *
 * Spec: proto.md, "Request types", NBD_CMD_READ
 */
import type { BlockSource, Extent } from '@strata/block';
import { CommandFlag, ReplyFlag, ReplyType } from '../protocol/numbers.ts';
import {
  extendedChunkHeaderLength,
  offsetDataHeaderLength,
  offsetHoleLength,
  type ReplyStyle,
  simpleReplyLength,
  writeChunkHeaderOf,
  writeOffset,
  writeSimpleReply,
} from '../protocol/reply.ts';
import type { RequestHeader } from '../protocol/request.ts';

/** Chunks of one reply; what is divided finer is sent as bytes. */
const maxPieces = 16;

/** The longest that headers may be which stand in a read reply. */
export const readHeadersLength = maxPieces * (extendedChunkHeaderLength + offsetHoleLength);

/** A part of a reply. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly zeros: boolean;
}

/** A reply that is laid out in a buffer and waits for its bytes. */
export interface ReadLayout {
  /** Bytes of the reply, headers and all. */
  readonly length: number;
  /** Where bytes go, and from where on the disk. */
  readonly parts: readonly { readonly into: Buffer; readonly offset: number }[];
}

/** True if no bytes need to be sent for an extent. */
export const isZeros = (extent: Extent): boolean => extent.kind !== 'data' && extent.kind !== 'compressed';

/** The pieces of a range, put together extent by extent. */
export class ReadPlan {
  readonly pieces: Piece[] = [];
  #offset: number;
  readonly #end: number;

  constructor(offset: number, length: number) {
    this.#offset = offset;
    this.#end = offset + length;
  }

  /** Goes on with what can be known without waiting. False: the rest must be waited for. */
  tryComplete(source: BlockSource): boolean {
    while (this.#offset < this.#end) {
      const extent = source.tryExtentAt(this.#offset, this.#end - this.#offset);
      if (extent === undefined) return false;
      this.#add(extent);
    }
    return true;
  }

  async complete(source: BlockSource): Promise<void> {
    while (!this.tryComplete(source)) {
      this.#add(await source.extentAt(this.#offset, this.#end - this.#offset));
    }
  }

  #add(extent: Extent): void {
    const zeros = isZeros(extent) && this.pieces.length < maxPieces - 1;
    const last = this.pieces.at(-1);
    if (last?.zeros === zeros) this.pieces.pop();
    const offset = last?.zeros === zeros ? last.offset : this.#offset;
    this.#offset += extent.length;
    this.pieces.push({ offset, length: this.#offset - offset, zeros });
  }
}

/** True if the reply to `request` must be one piece. */
export function mustBeWhole(request: RequestHeader, style: ReplyStyle): boolean {
  return style === 'simple' || (request.flags & CommandFlag.dontFragment) !== 0;
}

/** Lays a reply of chunks out at `at`. */
export function layOutChunks(
  into: Buffer,
  at: number,
  request: RequestHeader,
  pieces: readonly Piece[],
  style: ReplyStyle,
): ReadLayout {
  const parts: { into: Buffer; offset: number }[] = [];
  let position = at;
  for (const [index, { offset, length, zeros }] of pieces.entries()) {
    const flags = index === pieces.length - 1 ? ReplyFlag.done : 0;
    if (zeros) {
      position = writeHole(style, into, position, flags, request, { offset, length });
    } else {
      const start = writeDataHeader(style, into, position, flags, request, offset, length);
      position = start + length;
      parts.push({ into: into.subarray(start, position), offset });
    }
  }
  return { length: position - at, parts };
}

/** Writes what stands before the bytes in a reply that is one piece of bytes. Returns where these begin. */
export function writeWholeHeader(
  into: Buffer,
  at: number,
  request: RequestHeader,
  style: ReplyStyle,
): number {
  if (style === 'simple') {
    writeSimpleReply(into, at, 0, request);
    return at + simpleReplyLength;
  }
  return writeDataHeader(style, into, at, ReplyFlag.done, request, request.offset, request.length);
}

/** Writes a chunk of zeros. Returns where the next chunk begins. */
export function writeHole(
  style: ReplyStyle,
  into: Buffer,
  at: number,
  flags: number,
  request: RequestHeader,
  { offset, length }: Pick<Piece, 'offset' | 'length'>,
): number {
  const type = ReplyType.offsetHole;
  const body = writeChunkHeaderOf(style, into, at, flags, type, request, offsetHoleLength);
  writeOffset(into, body, offset);
  into.writeUInt32BE(length, body + offsetDataHeaderLength);
  return body + offsetHoleLength;
}

/** Writes what stands before `length` bytes from `offset` on. Returns where these begin. */
export function writeDataHeader(
  style: ReplyStyle,
  into: Buffer,
  at: number,
  flags: number,
  request: RequestHeader,
  offset: number,
  length: number,
): number {
  const type = ReplyType.offsetData;
  const payload = offsetDataHeaderLength + length;
  const body = writeChunkHeaderOf(style, into, at, flags, type, request, payload);
  writeOffset(into, body, offset);
  return body + offsetDataHeaderLength;
}
