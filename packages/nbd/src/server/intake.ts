/**
 * Requests with a payload (WRITE, and with extended headers others), until they are complete.
 *
 * A payload that lies in a receive block in one piece is used there. A large one that is still coming is
 * collected in a buffer of its own. The payload of a request that is refused is passed over.
 */
import type { ReplyStyle } from '../protocol/reply.ts';
import type { RequestHeader } from '../protocol/request.ts';
import { extendedRequestHeaderLength, requestHeaderLength } from '../protocol/request.ts';
import type { Account, Waiter } from './budget.ts';
import { type BufferPool, pooledLength } from './buffer-pool.ts';
import { inPlacePayload, maxPayload, maxSkippedPayload } from './limits.ts';
import type { Receiver } from './receiver.ts';
import type { Refusal } from './validate.ts';

/** A request whose payload has arrived whole. */
export type Arrived = { readonly request: RequestHeader } & (
  | {
      /** Unchanged until `release`. */
      readonly payload: Buffer;
      /** To be called once, when the payload is not used any more. */
      release(): void;
    }
  | { readonly refusal: Refusal }
);

/**
 * How taking a request went: it was taken; it has not arrived far enough; there is no room for it now; it
 * is so large that the client is cut off.
 */
export type Taken = 'taken' | 'incomplete' | 'full' | 'abusive';

type Pending =
  | { readonly kind: 'arrived'; readonly arrived: Arrived }
  | { readonly kind: 'skipping'; readonly arrived: Arrived; left: number }
  | { readonly kind: 'collecting'; readonly request: RequestHeader; readonly buffer: Buffer };

/** The request with a payload that one connection is receiving, if any. */
export class Intake {
  readonly #receiver: Receiver;
  readonly #pool: BufferPool;
  readonly #account: Account;
  readonly #headerLength: number;
  readonly #longest: number;
  #pending: Pending | undefined;

  constructor(receiver: Receiver, pool: BufferPool, account: Account, style: ReplyStyle) {
    this.#receiver = receiver;
    this.#pool = pool;
    this.#account = account;
    const isExtended = style === 'extended';
    this.#headerLength = isExtended ? extendedRequestHeaderLength : requestHeaderLength;
    this.#longest = isExtended ? maxPayload : maxSkippedPayload;
  }

  /** True from `begin` until `arrived` has given the request out. */
  get busy(): boolean {
    return this.#pending !== undefined;
  }

  /** Takes the request whose header stands next; with a refusal, only to pass over it. */
  begin(header: RequestHeader, refusal: Refusal | undefined, wake: Waiter): Taken {
    const { length } = header;
    if (length > this.#longest) return 'abusive';
    if (refusal) return this.#skip(header, refusal);
    const complete = this.#receiver.available >= this.#headerLength + length;
    if (complete) return this.#useInPlace(header);
    return length <= inPlacePayload ? 'incomplete' : this.#collect(header, wake);
  }

  /** The request that `begin` took, once it has arrived whole. */
  arrived(): Arrived | undefined {
    const pending = this.#pending;
    if (pending === undefined) return undefined;
    switch (pending.kind) {
      case 'arrived':
        break;
      case 'skipping': {
        const count = Math.min(pending.left, this.#receiver.available);
        this.#receiver.advance(count);
        pending.left -= count;
        if (pending.left > 0) return undefined;
        break;
      }
      case 'collecting':
        return this.#receiver.collected ? this.#collected(pending) : undefined;
    }
    this.#pending = undefined;
    return pending.arrived;
  }

  /** The connection is gone: what has arrived in part is dropped. */
  dispose(): void {
    if (this.#pending?.kind === 'collecting') this.#collected(this.#pending).release();
    this.#pending = undefined;
  }

  #skip(header: RequestHeader, refusal: Refusal): Taken {
    this.#receiver.advance(this.#headerLength);
    this.#pending = { kind: 'skipping', arrived: { request: { ...header }, refusal }, left: header.length };
    return 'taken';
  }

  #useInPlace(header: RequestHeader): Taken {
    const receiver = this.#receiver;
    receiver.advance(this.#headerLength);
    const block = receiver.hold();
    const payload = receiver.bytes.subarray(receiver.at, receiver.at + header.length);
    receiver.advance(header.length);
    const release = (): void => receiver.release(block);
    this.#pending = { kind: 'arrived', arrived: { request: { ...header }, payload, release } };
    return 'taken';
  }

  #collect(header: RequestHeader, wake: Waiter): Taken {
    const taken = pooledLength(header.length + requestHeaderLength);
    if (!this.#account.tryTake(taken, wake)) return 'full';
    this.#receiver.advance(this.#headerLength);
    const buffer = this.#pool.take(taken);
    this.#receiver.collect(buffer, header.length);
    this.#pending = { kind: 'collecting', request: { ...header }, buffer };
    return 'taken';
  }

  #collected({ request, buffer }: Pending & { readonly kind: 'collecting' }): Arrived & { release(): void } {
    this.#receiver.endCollecting();
    this.#pending = undefined;
    const release = (): void => {
      this.#pool.give(buffer);
      this.#account.give(buffer.length);
    };
    return { request, payload: buffer.subarray(0, request.length), release };
  }
}
