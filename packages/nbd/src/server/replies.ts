/**
 * The replies of one connection on their way out.
 *
 * Replies are written one behind the other into a block, and the block is sent when the requests that
 * arrived together are answered, or when it is full. What is too large for a block comes in a
 * buffer of its own. Replies may go out in any order.
 */
import type { BufferPool } from './buffer-pool.ts';
import { type DirectReply, Outgoing } from './outgoing.ts';
import type { Transport } from './transport.ts';

const blockLength = 256 * 1024;

/** Collects and sends replies. After `close` everything is accepted and nothing is sent. */
export class Replies {
  readonly #pool: BufferPool;
  readonly #outgoing: Outgoing;
  readonly #onSent: () => void;
  #block: Buffer | undefined;
  #fill = 0;
  #held = 0;
  #flushing = false;
  #closed = false;

  /** @param onSent is called each time that `held` or `directBytes` has become less */
  constructor(pool: BufferPool, transport: Transport, onSent: () => void) {
    this.#pool = pool;
    this.#outgoing = new Outgoing(transport, pool, onSent);
    this.#onSent = onSent;
  }

  /** True while there are replies that the peer has not taken yet. */
  get busy(): boolean {
    return this.#held > 0 || this.#fill > 0;
  }

  /** Bytes of the buffers in which replies wait to be taken, however little of them is used. */
  get held(): number {
    return this.#held;
  }

  /** Bytes that wait to be taken and are in no buffer. */
  get directBytes(): number {
    return this.#outgoing.directBytes;
  }

  /** True if replies go out as they are, so that `direct` can be used. */
  get isPlain(): boolean {
    return !this.#closed && this.#outgoing.isPlain;
  }

  /** Sends a reply whose bytes the kernel sends from a file. */
  direct(reply: DirectReply): void {
    this.flush();
    this.#outgoing.direct(reply);
  }

  /** The block that `reserve` spoke of. */
  get bytes(): Buffer {
    this.#block ??= this.#pool.take(blockLength);
    return this.#block;
  }

  /** Where in `bytes` up to `length` bytes may be written, at most a block with headers. They count only after `commit`. */
  reserve(length: number): number {
    if (this.#fill > 0 && this.bytes.length - this.#fill < length) this.flush();
    return this.#fill;
  }

  /** `length` bytes, written where `reserve` said, are a reply. */
  commit(length: number): void {
    this.#fill += length;
  }

  /** Copies the first `length` bytes of a buffer, at most a block, as a reply. */
  append(buffer: Buffer, length: number): void {
    const at = this.reserve(length);
    buffer.copy(this.bytes, at, 0, length);
    this.commit(length);
  }

  /** Sends the first `length` bytes of a buffer; `sent` is called when it may be used again. */
  send(buffer: Buffer, length: number, sent: () => void): void {
    if (this.#closed) {
      sent();
      return;
    }
    this.#held += buffer.length;
    this.#outgoing.write(length < buffer.length ? buffer.subarray(0, length) : buffer, () => {
      this.#held -= buffer.length;
      sent();
      this.#onSent();
    });
  }

  /** Sends what has gathered. */
  flush(): void {
    const block = this.#block;
    if (block === undefined || this.#fill === 0) return;
    const length = this.#fill;
    this.#block = undefined;
    this.#fill = 0;
    this.send(block, length, () => this.#pool.give(block));
  }

  /** Sends what has gathered when all that is ready now has been answered. */
  flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.flush();
    });
  }

  /** The connection is gone. */
  close(): void {
    this.#closed = true;
    this.#outgoing.close();
    if (this.#block) this.#pool.give(this.#block);
    this.#block = undefined;
    this.#fill = 0;
  }
}
