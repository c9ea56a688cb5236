/**
 * Ranges of a disk as requests that the server takes: aligned to its minimum block, no longer than its maximum.
 *
 * A request in pieces settles when all its pieces have, also after a failure: until then the caller's buffer is in
 * use. Writes that start or end inside a block read that block first; who calls must keep other writes out of it.
 *
 * Spec: proto.md, "Size constraints"
 */
import { isDiskError } from '@strata/block';
import { Command, CommandFlag, defaultMaxPayload, TransmissionFlag } from '../protocol/numbers.ts';
import type { Negotiated } from './handshake.ts';
import type { Session } from './session.ts';

/** Of TRIM and WRITE_ZEROES, which have no payload: multiples of every minimum block, well inside 32 and 53 bits. */
const mostWithoutPayload = { compact: 2 ** 30, extended: 2 ** 52 };
/** Where the server does not say. Spec: "Size constraints" */
const defaultPreferredBlock = 4096;
/** Zeros to be written out, where the server has no WRITE_ZEROES. */
const zeros = Buffer.alloc(1024 * 1024);

/** What requests are made of: one connection, or something that stands for several. */
export type Requests = Pick<Session, 'read' | 'write' | 'send' | 'status' | 'lost'>;

/** Where requests go. */
export interface SessionSource {
  /** Who takes the next request. */
  next(): Requests;
}

/** Moves bytes of any range. All ranges lie inside the disk and are not empty. */
export class Transfer {
  /** Bytes, a power of two. */
  readonly minimumBlock: number;
  /** Bytes, a power of two: what the server works on well. */
  readonly preferredBlock: number;
  readonly #mostPayload: number;
  readonly #connections: SessionSource;
  readonly #flags: number;
  /** What the server was seen to take without a payload; it may refuse what exceeds its payloads. */
  #mostWithoutPayload: number;

  constructor(connections: SessionSource, { blockSizes, flags, style }: Negotiated) {
    this.#connections = connections;
    this.#flags = flags;
    this.#mostWithoutPayload = mostWithoutPayload[style === 'extended' ? 'extended' : 'compact'];
    this.minimumBlock = blockSizes?.minimum ?? 1;
    this.preferredBlock = blockSizes?.preferred ?? defaultPreferredBlock;
    const most = Math.min(blockSizes?.maximumPayload ?? defaultMaxPayload, defaultMaxPayload);
    this.#mostPayload = most - (most % this.minimumBlock);
  }

  /** Where the blocks that hold the range start. */
  floor(offset: number): number {
    return offset - (offset % this.minimumBlock);
  }

  /** Where the blocks that hold what ends at `end` end. */
  ceiling(end: number): number {
    return this.floor(end + this.minimumBlock - 1);
  }

  /** @throws {DiskError} as the server answers */
  read(into: Uint8Array, offset: number): Promise<void> {
    if (into.length <= this.#mostPayload && this.#isAligned(offset, into.length)) {
      return this.#connections.next().read(into, offset);
    }
    return this.#inPieces(
      { offset, length: into.length },
      (at, length) => this.#connections.next().read(part(into, at - offset, length), at),
      async (block, at, length) => {
        const bytes = await this.#readBlock(block);
        into.set(part(bytes, at - block, length), at - offset);
      },
    );
  }

  /** @throws {DiskError} as the server answers */
  write(from: Uint8Array, offset: number): Promise<void> {
    if (from.length <= this.#mostPayload && this.#isAligned(offset, from.length)) {
      return this.#connections.next().write(from, offset);
    }
    return this.#inPieces(
      { offset, length: from.length },
      (at, length) => this.#connections.next().write(part(from, at - offset, length), at),
      (block, at, length) => this.#patchBlock(block, part(from, at - offset, length), at),
    );
  }

  /** Writes zeros out. */
  async writeZeros(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += zeros.length) {
      await this.write(part(zeros, 0, Math.min(zeros.length, length - done)), offset + done);
    }
  }

  /** By WRITE_ZEROES, with `flags`; parts of blocks at the ends are written out. */
  async zero(offset: number, length: number, flags: number): Promise<void> {
    const start = Math.min(this.ceiling(offset), offset + length);
    const end = Math.max(this.floor(offset + length), start);
    if (start > offset) await this.writeZeros(offset, start - offset);
    if (end > start) await this.#withoutPayload(Command.writeZeroes, start, end - start, flags);
    if (end < offset + length) await this.writeZeros(end, offset + length - end);
  }

  /** By TRIM, the whole blocks only. */
  async trim(offset: number, length: number): Promise<void> {
    const start = this.ceiling(offset);
    const end = this.floor(offset + length);
    if (end > start) await this.#withoutPayload(Command.trim, start, end - start, 0);
  }

  /** Nothing, if the server has no FLUSH. */
  async flush(): Promise<void> {
    const session = this.#connections.next();
    const isOffered = (this.#flags & TransmissionFlag.sendFlush) !== 0;
    if (isOffered) await session.send({ command: Command.flush, offset: 0, length: 0 });
    else if (session.lost !== undefined) throw session.lost;
  }

  /**
   * Piece after piece. FAST_ZERO is asked of the first alone: it may be refused while nothing has changed, and is
   * promise enough for the others.
   */
  async #withoutPayload(command: number, offset: number, length: number, flags: number): Promise<void> {
    let at = offset;
    const end = offset + length;
    while (at < end) {
      const piece = Math.min(this.#mostWithoutPayload, end - at);
      const now = at === offset ? flags : flags & ~CommandFlag.fastZero;
      try {
        await this.#connections.next().send({ command, offset: at, length: piece, flags: now });
      } catch (error) {
        if (piece <= this.#mostPayload || !isDiskError(error, 'invalid', 'limit')) throw error;
        this.#mostWithoutPayload = this.#mostPayload;
        continue;
      }
      at += piece;
    }
  }

  #isAligned(offset: number, length: number): boolean {
    return this.minimumBlock === 1 || (offset % this.minimumBlock === 0 && length % this.minimumBlock === 0);
  }

  /** `whole` gets aligned pieces, `partial` what is less than a block, with the block's offset. */
  async #inPieces(
    range: { readonly offset: number; readonly length: number },
    whole: (at: number, length: number) => Promise<void>,
    partial: (block: number, at: number, length: number) => Promise<void>,
  ): Promise<void> {
    const end = range.offset + range.length;
    const pieces: Promise<void>[] = [];
    let at = range.offset;
    while (at < end) {
      const block = this.floor(at);
      const isPartial = at > block || end < block + this.minimumBlock;
      const pieceEnd = isPartial
        ? Math.min(block + this.minimumBlock, end)
        : Math.min(at + this.#mostPayload, this.floor(end));
      const length = pieceEnd - at;
      pieces.push(isPartial ? partial(block, at, length) : whole(at, length));
      at = pieceEnd;
    }
    const failed = (await Promise.allSettled(pieces)).find((piece) => piece.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async #readBlock(block: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(this.minimumBlock);
    await this.#connections.next().read(bytes, block);
    return bytes;
  }

  async #patchBlock(block: number, from: Uint8Array, at: number): Promise<void> {
    const bytes = await this.#readBlock(block);
    bytes.set(from, at - block);
    await this.#connections.next().write(bytes, block);
  }
}

function part(bytes: Uint8Array, at: number, length: number): Uint8Array {
  return bytes.subarray(at, at + length);
}
