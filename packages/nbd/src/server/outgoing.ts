/**
 * What one connection sends, in turn: buffers, and bytes that the kernel takes from its page cache itself.
 *
 * The kernel sends what the socket has room for. Then a piece is read and written as usual, and when that has gone there is
 * room again. So the pieces only pace what is sent, and a socket that is never full sees none.
 *
 * Once the head of a reply is out its bytes must follow: a disk that fails then costs the connection.
 *
 * Spec: proto.md, "Request types", NBD_CMD_READ
 */
import type { BlockSource } from '@strata/block';
import type { BufferPool } from './buffer-pool.ts';
import type { Transport } from './transport.ts';

/** Of a piece that is written as usual. */
const pieceLength = 64 * 1024;

/** A reply that is a head and a range of a disk. */
export interface DirectReply {
  readonly head: Buffer;
  readonly source: BlockSource;
  readonly offset: number;
  readonly length: number;
  /** All has been sent, or there is nobody any more to send to. An error: the connection is lost for it. */
  done(error?: unknown): void;
}

type Item = { readonly bytes: Buffer; readonly sent: () => void } | DirectReply;

/** The sending side of one connection. */
export class Outgoing {
  readonly #transport: Transport;
  readonly #pool: BufferPool;
  readonly #moved: () => void;
  readonly #waiting: Item[] = [];
  #direct: DirectReply | undefined;
  #directBytes = 0;
  #closed = false;

  /** @param moved is called each time that a part of a direct reply has gone */
  constructor(transport: Transport, pool: BufferPool, moved: () => void) {
    this.#transport = transport;
    this.#pool = pool;
    this.#moved = moved;
  }

  /** True if bytes go out as they are, so that direct replies can be sent. */
  get isPlain(): boolean {
    return this.#transport.descriptor !== undefined;
  }

  /** Bytes of direct replies that have not been sent. */
  get directBytes(): number {
    return this.#directBytes;
  }

  /** As `Transport.write`. */
  write(bytes: Buffer, sent: () => void): void {
    if (this.#direct === undefined && this.#waiting.length === 0) this.#write(bytes, sent);
    else this.#waiting.push({ bytes, sent });
  }

  /** Sends a reply when all that was given before is out. */
  direct(reply: DirectReply): void {
    this.#directBytes += reply.length;
    this.#waiting.push(reply);
    this.#next();
  }

  /** The connection is gone: what waits is given up. */
  close(): void {
    this.#closed = true;
    for (const item of this.#waiting.splice(0)) {
      if ('bytes' in item) item.sent();
      else this.#end(item, item.length);
    }
  }

  #write(bytes: Buffer, sent: () => void): void {
    this.#transport.write(bytes, () => {
      sent();
      this.#next();
    });
  }

  #next(): void {
    while (this.#direct === undefined) {
      const item = this.#waiting[0];
      if (item === undefined || (!('bytes' in item) && !this.#transport.isDrained)) return;
      this.#waiting.shift();
      if ('bytes' in item) this.#write(item.bytes, item.sent);
      else this.#start(item);
    }
  }

  #start(reply: DirectReply): void {
    this.#direct = reply;
    this.#transport.write(reply.head, () => undefined);
    this.#goOn(reply, 0);
  }

  /** `at` bytes of the reply are out. */
  #goOn(reply: DirectReply, at: number): void {
    let sent = at;
    try {
      if (!this.#closed && this.#transport.isDrained) sent += this.#sendDirect(reply, at);
      if (sent > at) this.#moved();
      if (this.#closed || sent === reply.length) this.#finish(reply, reply.length - at);
      else this.#sendPiece(reply, sent, sent - at);
    } catch (error) {
      this.#fail(reply, reply.length - at, error);
    }
  }

  #sendDirect({ source, offset, length }: DirectReply, at: number): number {
    const { descriptor } = this.#transport;
    if (descriptor === undefined) return 0;
    return source.tryDirect?.(offset + at, length - at)?.(descriptor, offset + at, length - at) ?? 0;
  }

  #sendPiece(reply: DirectReply, at: number, justSent: number): void {
    this.#directBytes -= justSent;
    const { source, offset, length } = reply;
    const left = length - at;
    const buffer = this.#pool.take(pieceLength);
    const piece = buffer.subarray(0, Math.min(pieceLength, left));
    const send = (): void =>
      this.#transport.write(piece, () => {
        this.#pool.give(buffer);
        this.#directBytes -= piece.length;
        this.#moved();
        this.#goOn(reply, at + piece.length);
      });
    if (source.tryRead(piece, offset + at)) {
      send();
      return;
    }
    source.read(piece, offset + at).then(send, (error) => {
      this.#pool.give(buffer);
      this.#fail(reply, left, error);
    });
  }

  #fail(reply: DirectReply, left: number, error: unknown): void {
    this.#transport.destroy();
    this.#finish(reply, left, error);
  }

  #finish(reply: DirectReply, left: number, error?: unknown): void {
    this.#direct = undefined;
    this.#end(reply, left, error);
    this.#next();
  }

  #end(reply: DirectReply, left: number, error?: unknown): void {
    this.#directBytes -= left;
    reply.done(error);
  }
}
