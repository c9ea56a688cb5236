/**
 * READ on one connection: at once out of memory or the page cache, or else in a buffer of its own.
 *
 * Spec: proto.md, "Request types", NBD_CMD_READ
 */
import type { BlockSource } from '@strata/block';
import type { ReplyStyle } from '../protocol/reply.ts';
import type { RequestHeader } from '../protocol/request.ts';
import { KnownData } from './known-data.ts';
import { type PartialRead, readUpToFailure } from './partial-read.ts';
import { layOutChunks, mustBeWhole, ReadPlan, readHeadersLength, writeWholeHeader } from './read-layout.ts';
import type { Replies } from './replies.ts';

/** A longer READ does not fit into a block of replies. */
const longestAtOnce = 256 * 1024;

/** Bytes of a buffer for the reply to a READ of `length`. */
export function readBufferLength(length: number): number {
  return length + readHeadersLength;
}

/** Answers READs of one disk. */
export class Reads {
  readonly #source: BlockSource;
  readonly #style: ReplyStyle;
  readonly #replies: Replies;
  readonly #known = new KnownData();

  constructor(source: BlockSource, style: ReplyStyle, replies: Replies) {
    this.#source = source;
    this.#style = style;
    this.#replies = replies;
  }

  /** Answers without waiting. False: nothing was answered. */
  tryAnswer(request: RequestHeader): boolean {
    if (request.length > longestAtOnce) return false;
    return this.#isWhole(request) ? this.#tryWhole(request) : this.#tryPieces(request);
  }

  /**
   * What stands before the bytes of a READ that the kernel can send now, as far as that can be told without waiting.
   * Undefined: it cannot, or the reply is not one piece of bytes.
   */
  tryDirect(request: RequestHeader): Buffer | undefined {
    const { offset, length } = request;
    if (!this.#isWhole(request) || !this.#source.tryDirect?.(offset, length)) return undefined;
    const head = Buffer.allocUnsafe(readHeadersLength);
    return head.subarray(0, writeWholeHeader(head, 0, request, this.#style));
  }

  #tryWhole(request: RequestHeader): boolean {
    const { offset, length } = request;
    const at = this.#replies.reserve(readBufferLength(length));
    const bytes = this.#replies.bytes;
    const start = writeWholeHeader(bytes, at, request, this.#style);
    if (!this.#source.tryRead(bytes.subarray(start, start + length), offset)) return false;
    this.#replies.commit(start + length - at);
    return true;
  }

  #tryPieces(request: RequestHeader): boolean {
    const plan = new ReadPlan(request.offset, request.length);
    if (!plan.tryComplete(this.#source)) return false;
    const at = this.#replies.reserve(readBufferLength(request.length));
    const layout = layOutChunks(this.#replies.bytes, at, request, plan.pieces, this.#style);
    for (const { into, offset } of layout.parts) {
      if (!this.#source.tryRead(into, offset)) return false;
    }
    this.#replies.commit(layout.length);
    return true;
  }

  /**
   * Fills a buffer of `readBufferLength` with the whole reply, and resolves with its length.
   * @throws what the disk rejects with; nothing is written to `into` any more then
   */
  fill(request: RequestHeader, into: Buffer): Promise<number> {
    return this.#isWhole(request) ? this.#fillWhole(request, into) : this.#fillPieces(request, into);
  }

  #fillWhole(request: RequestHeader, into: Buffer): Promise<number> {
    const start = writeWholeHeader(into, 0, request, this.#style);
    const end = start + request.length;
    return this.#source.read(into.subarray(start, end), request.offset).then(() => end);
  }

  async #fillPieces(request: RequestHeader, into: Buffer): Promise<number> {
    const plan = new ReadPlan(request.offset, request.length);
    await plan.complete(this.#source);
    const layout = layOutChunks(into, 0, request, plan.pieces, this.#style);
    const reads = layout.parts.map((part) => this.#source.read(part.into, part.offset));
    const failed = (await Promise.allSettled(reads)).find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return layout.length;
  }

  /**
   * After `fill` has failed: lays out in the same buffer what comes before the failure. Undefined: where that is cannot
   * be told, or not to this client.
   */
  async salvage(
    request: RequestHeader,
    into: Buffer,
    wanted: () => boolean,
  ): Promise<PartialRead | undefined> {
    if (this.#style === 'simple') return undefined;
    return readUpToFailure(request, into, { source: this.#source, style: this.#style, wanted });
  }

  /** Whether the reply is one piece of bytes, as far as that can be told without waiting. */
  #isWhole(request: RequestHeader): boolean {
    const { offset, length } = request;
    const whole = mustBeWhole(request, this.#style) || this.#known.covers(offset, length);
    return whole || this.#known.learn(this.#source, offset, length);
  }
}
