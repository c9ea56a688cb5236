/**
 * Where received bytes lie until they are parsed, and after that as long as a request uses them.
 *
 * Bytes are received into blocks and parsed there; a payload is written to the disk straight from the
 * block, which is held until then. A large payload is collected in a buffer of its own, into which the
 * socket reads directly, together with the header that follows it.
 *
 * Every block leaves room at its front. When a block is full, the bytes that are no whole message yet are
 * copied in front of where the next block receives, so a message is in one piece wherever it was cut.
 *
 * The socket knows only the last `space` it was given, so that stays valid while receiving is paused:
 * nothing but `space` moves the end of a block.
 */
import { optionHeaderLength } from '../protocol/handshake.ts';
import { requestHeaderLength } from '../protocol/request.ts';
import type { BufferPool } from './buffer-pool.ts';
import { maxOptionLength } from './limits.ts';

/** The longest thing that may be incomplete at the end of a block: an option. */
const frontRoom = optionHeaderLength + maxOptionLength;
const blockLength = 256 * 1024;
/** A block with less room at its end is not received into any more. */
const leastSpace = 16 * 1024;

/** A block, and how many requests use bytes in it. */
export interface ReceiveBlock {
  readonly bytes: Buffer;
  users: number;
  /** True: nothing is received into it any more. */
  retired: boolean;
}

/** A payload that is being collected. */
export interface Collecting {
  /** At least `length` and a request header long. */
  readonly into: Buffer;
  readonly length: number;
  filled: number;
}

/** The received bytes of one connection: `bytes` from `at` on, `available` of them. */
export class Receiver {
  readonly #pool: BufferPool;
  #block: ReceiveBlock;
  /** Receives already, while `#block` is not parsed to its end. */
  #next: ReceiveBlock | undefined;
  #at = frontRoom;
  #end = frontRoom;
  #held = 0;
  #collecting: Collecting | undefined;
  #landsInPayload = false;

  constructor(pool: BufferPool) {
    this.#pool = pool;
    this.#block = this.#newBlock();
  }

  get bytes(): Buffer {
    return this.#block.bytes;
  }

  get at(): number {
    return this.#at;
  }

  get available(): number {
    return this.#end - this.#at;
  }

  /** Blocks that requests or the socket hold. */
  get blocks(): number {
    return this.#held;
  }

  /** Has parsed `length` bytes. */
  advance(length: number): void {
    this.#at += length;
  }

  /** Keeps the present block until `release`. */
  hold(): ReceiveBlock {
    this.#block.users++;
    return this.#block;
  }

  /** A request no longer uses `block`. */
  release(block: ReceiveBlock): void {
    if (--block.users === 0 && block.retired) this.#drop(block);
  }

  /** Sends the next `length` bytes to `into`, at least `length` and a request header long. */
  collect(into: Buffer, length: number): void {
    this.#collecting = { into, length, filled: 0 };
    this.#fill();
  }

  /** True if what `collect` asked for is there, or nothing was asked for. */
  get collected(): boolean {
    return this.#collecting === undefined || this.#collecting.filled === this.#collecting.length;
  }

  /** Parsing goes on behind what was collected. */
  endCollecting(): void {
    this.#collecting = undefined;
  }

  /**
   * Where the next bytes are to be received. With `unparsed`, whole messages may still lie in the block;
   * without, what lies there is at most a part of one.
   */
  space(unparsed: boolean): Buffer {
    const collecting = this.#collecting;
    this.#landsInPayload = collecting !== undefined && !this.collected && this.available === 0 && !unparsed;
    if (collecting && this.#landsInPayload) {
      return collecting.into.subarray(collecting.filled, collecting.length + requestHeaderLength);
    }
    if (this.available === 0 && this.#block.users === 0 && this.#next === undefined) {
      this.#at = this.#end = frontRoom;
    }
    if (this.#block.bytes.length - this.#end < leastSpace) this.#next ??= this.#newBlock();
    if (!unparsed) this.settle();
    return this.#next?.bytes.subarray(frontRoom) ?? this.#block.bytes.subarray(this.#end);
  }

  /** `length` bytes have been put into the last `space`. */
  received(length: number): void {
    if (!this.#landsInPayload) {
      this.#end += length;
      if (this.#collecting) this.#fill();
      return;
    }
    const collecting = this.#collecting as Collecting;
    const rest = collecting.filled + length - collecting.length;
    collecting.filled += Math.min(length, collecting.length - collecting.filled);
    if (rest > 0) this.#append(collecting.into.subarray(collecting.length, collecting.length + rest));
  }

  /** All whole messages have been parsed: the rest goes to where the next bytes are received. */
  settle(): void {
    const next = this.#next;
    if (next === undefined) return;
    this.#next = undefined;
    this.#block.bytes.copy(next.bytes, frontRoom - this.available, this.#at, this.#end);
    this.#retire(this.#block);
    this.#at = frontRoom - this.available;
    this.#end = frontRoom;
    this.#block = next;
  }

  /** The connection is gone: blocks go back when nothing uses them. */
  dispose(): void {
    this.#retire(this.#block);
    if (this.#next) this.#retire(this.#next);
  }

  /** Moves what has arrived into the payload that is being collected. */
  #fill(): void {
    const { into, length, filled } = this.#collecting as Collecting;
    const count = Math.min(this.available, length - filled);
    this.#block.bytes.copy(into, filled, this.#at, this.#at + count);
    (this.#collecting as Collecting).filled += count;
    this.#at += count;
  }

  /** Puts at most a request header behind the block's last bytes. */
  #append(bytes: Uint8Array): void {
    if (this.#block.bytes.length - this.#end < requestHeaderLength) {
      this.#next ??= this.#newBlock();
      this.settle();
    }
    this.#block.bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  #newBlock(): ReceiveBlock {
    this.#held++;
    return { bytes: this.#pool.take(blockLength), users: 0, retired: false };
  }

  #retire(block: ReceiveBlock): void {
    block.retired = true;
    if (block.users === 0) this.#drop(block);
  }

  #drop(block: ReceiveBlock): void {
    this.#held--;
    this.#pool.give(block.bytes);
  }
}
