/**
 * The requests of one connection that are being carried out, and their answers.
 *
 * A READ out of memory is answered on the spot. Everything else runs beside the loop and is answered when
 * the disk is done; answers that are ready in one turn of the loop go out together.
 */
import { isDiskError } from '@strata/block';
import { Command } from '../protocol/numbers.ts';
import type { RequestHeader } from '../protocol/request.ts';
import { answerDone, answerRefusal } from './answers.ts';
import { blockStatusReply } from './block-status.ts';
import { Account, type Budget, type Waiter } from './budget.ts';
import { type BufferPool, pooledLength } from './buffer-pool.ts';
import type { MetaContext } from './contexts.ts';
import type { Agreed } from './handshake.ts';
import { ownAllowance } from './limits.ts';
import { perform } from './perform.ts';
import { Reads, readBufferLength } from './reads.ts';
import { refusalOf } from './refusal.ts';
import type { Replies } from './replies.ts';
import type { Refusal } from './validate.ts';
import type { Wakefulness } from './wakefulness.ts';

/**
 * A READ of so much is worth a thread where replies are encrypted, while there is other work: the loop has enough to do.
 * Elsewhere the detour costs more than the copy, and takes a processor from those who wait for the answer.
 */
const longRead = 32 * 1024;
/** From so many bytes on the kernel sends a READ from the page cache itself where it can. */
const directRead = 64 * 1024;
/** A reply in a buffer of its own that is not longer is copied into the block of replies. */
const copiedReply = 16 * 1024;

/** What all connections of a server share. */
export interface Resources {
  readonly pool: BufferPool;
  readonly budget: Budget;
  readonly wakefulness: Wakefulness | undefined;
  /** Hears of failures that are bugs of ours. */
  report(error: unknown): void;
}

/** What an execution tells the session it belongs to. */
export interface ExecutionHost {
  /** A request is no longer under way. */
  finished(): void;
  /** A request was answered with an error. */
  refused(): void;
  /** Something went wrong that no answer can tell. */
  broken(error: unknown): void;
}

/** Carries out what has been judged valid. */
export class Execution {
  /** Of everything that requests hold in buffers of their own. */
  readonly account: Account;
  readonly #host: ExecutionHost;
  readonly #resources: Resources;
  readonly #agreed: Agreed;
  readonly #replies: Replies;
  readonly #reads: Reads;
  #running = 0;
  #closed = false;

  constructor(host: ExecutionHost, resources: Resources, agreed: Agreed, replies: Replies) {
    this.#host = host;
    this.#resources = resources;
    this.#agreed = agreed;
    this.#replies = replies;
    this.account = new Account(resources.budget, ownAllowance);
    this.#reads = new Reads(agreed.served.source, agreed.style, replies);
  }

  /** Requests that the disk works on. */
  get running(): number {
    return this.#running;
  }

  /** From now on answers go to nobody. What the disk works on goes on. */
  close(): void {
    this.#closed = true;
  }

  /**
   * Carries out anything but a WRITE. False: there is no room for it now, and `wake` is called when it is
   * worth to try again. `more`: another request waits behind it. The header may be used again afterwards.
   */
  start(header: RequestHeader, more: boolean, wake: Waiter): boolean {
    if (header.command === Command.read) return this.#read(header, more, wake);
    if (header.command === Command.blockStatus) this.status({ ...header }, this.#agreed.contexts);
    else this.#perform({ ...header }, undefined, nothing);
    return true;
  }

  /** Carries out a WRITE; `release` is called when the payload is not used any more. */
  write(request: RequestHeader, payload: Buffer, release: () => void): void {
    this.#perform(request, payload, release);
  }

  /** Answers a request that is not carried out. */
  refuse(request: RequestHeader, refusal: Refusal): void {
    this.#host.refused();
    answerRefusal(this.#replies, request, this.#agreed.style, refusal);
  }

  #read(header: RequestHeader, more: boolean, wake: Waiter): boolean {
    const isBusy = more || this.#running > 0;
    const beside = header.length >= longRead && isBusy && !this.#replies.isPlain;
    try {
      if (header.length === 0) answerDone(this.#replies, header, this.#agreed.style);
      else if (header.length >= directRead && this.#readDirect(header)) return true;
      else if (beside || !this.#reads.tryAnswer(header)) return this.#readWaiting(header, wake);
    } catch (error) {
      this.#fail(header, error);
    }
    return true;
  }

  /** A READ whose bytes do not come into our memory. False: there must be another way. */
  #readDirect(header: RequestHeader): boolean {
    const head = this.#replies.isPlain ? this.#reads.tryDirect(header) : undefined;
    if (head === undefined) return false;
    const { offset, length } = header;
    this.#running++;
    this.#replies.direct({
      head,
      source: this.#agreed.served.source,
      offset,
      length,
      done: (error) => {
        if (error !== undefined && !isDiskError(error)) this.#resources.report(error);
        this.#finished();
      },
    });
    return true;
  }

  /** A READ that has to wait, in a buffer of its own. */
  #readWaiting(header: RequestHeader, wake: Waiter): boolean {
    const length = pooledLength(readBufferLength(header.length));
    if (!this.account.tryTake(length, wake)) return false;
    const buffer = this.#resources.pool.take(length);
    const release = (): void => {
      this.#resources.pool.give(buffer);
      this.account.give(length);
    };
    const request = { ...header };
    const answer = (filled: number): void => this.#answerRead(buffer, filled, release);
    this.#run(request, this.#reads.fill(request, buffer), release, answer, async () => {
      const partial = await this.#reads.salvage(request, buffer, this.#isWanted);
      if (partial === undefined || this.#closed) release();
      else answer(partial.length);
      return partial?.offset;
    });
    return true;
  }

  #answerRead(buffer: Buffer, filled: number, release: () => void): void {
    if (filled <= copiedReply) {
      this.#replies.append(buffer, filled);
      release();
    } else {
      this.#replies.send(buffer, filled, release);
    }
  }

  /** The selected contexts that have these identifiers. Undefined: one of them has not. */
  contextsOf(ids: readonly number[]): ReadonlyMap<number, MetaContext> | undefined {
    const { contexts } = this.#agreed;
    const isKnown = ids.every((id) => contexts.has(id));
    return isKnown ? new Map([...contexts].filter(([id]) => ids.includes(id))) : undefined;
  }

  /** Carries out a block status of some contexts. */
  status(request: RequestHeader, contexts: ReadonlyMap<number, MetaContext>): void {
    const work = blockStatusReply(request, contexts, this.#agreed.style);
    this.#run(request, work, nothing, (reply) => this.#replies.send(reply, reply.length, nothing));
  }

  #perform(request: RequestHeader, payload: Buffer | undefined, release: () => void): void {
    const { pool } = this.#resources;
    const work = perform(request, this.#agreed.served, payload, { pool, wanted: this.#isWanted });
    this.#run(request, work, release, () => {
      answerDone(this.#replies, request, this.#agreed.style);
      release();
    });
  }

  readonly #isWanted = (): boolean => !this.#closed;

  /**
   * Counts `work` as under way until it settles. Either `answer` uses what `release` gives back, or nobody does. If the
   * disk has failed, `salvage` answers what can be answered nevertheless, gives back, and says where the failure is.
   */
  #run<T>(
    request: RequestHeader,
    work: Promise<T>,
    release: () => void,
    answer: (value: T) => void,
    salvage?: () => Promise<number | undefined>,
  ): void {
    this.#running++;
    work
      .then(
        (value) => {
          if (this.#closed) release();
          else answer(value);
          this.#finished();
        },
        async (error: unknown) => {
          const isDamage = isDiskError(error, 'io', 'corrupt');
          if (salvage === undefined || !isDamage || this.#closed) {
            release();
            this.#fail(request, error);
          } else {
            this.#fail(request, error, await salvage());
          }
          this.#finished();
        },
      )
      .catch(this.#broken);
  }

  readonly #broken = (error: unknown): void => this.#host.broken(error);

  #fail(request: RequestHeader, error: unknown, offset?: number): void {
    const refusal = refusalOf(error, request, this.#resources.report);
    if (!this.#closed) this.refuse(request, offset === undefined ? refusal : { ...refusal, offset });
  }

  #finished(): void {
    this.#running--;
    if (!this.#closed) this.#replies.flushSoon();
    this.#resources.wakefulness?.served(1, this.#running);
    this.#host.finished();
  }
}

const nothing = (): void => undefined;
