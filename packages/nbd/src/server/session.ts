/**
 * The transmission phase of one connection: requests in, replies out.
 *
 * What can be answered at once is answered while the requests are parsed, straight into the block that is
 * sent when all that arrived together is answered. What has to wait runs beside it, bounded in number and
 * bytes; while a bound is reached nothing is parsed and nothing is received.
 *
 * Spec: proto.md, "Transmission"
 */
import { Command } from '../protocol/numbers.ts';
import {
  newRequestHeader,
  type RequestHeader,
  readRequestHeader,
  requestHeaderLength,
} from '../protocol/request.ts';
import { answerDone, answerRefusal } from './answers.ts';
import { blockStatusReply } from './block-status.ts';
import { Account, type Budget } from './budget.ts';
import { type BufferPool, pooledLength } from './buffer-pool.ts';
import type { Agreed } from './handshake.ts';
import { Intake, type Taken } from './intake.ts';
import { heldReplies, ownAllowance, receiveBlocks, requestsInFlight } from './limits.ts';
import { perform } from './perform.ts';
import { Reads, readBufferLength } from './reads.ts';
import type { Receiver } from './receiver.ts';
import { refusalOf, stopping } from './refusal.ts';
import type { Replies } from './replies.ts';
import { type Agreement, type Refusal, validate } from './validate.ts';
import type { Wakefulness } from './wakefulness.ts';

/** A READ of so much is worth a thread when there is other work; copying it takes longer than the detour. */
const longRead = 32 * 1024;
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

/** What a session needs of the connection it runs on. */
export interface SessionHost {
  /** Nothing blocks any more: receiving may go on. */
  unblocked(): void;
  /** The last request under way has been answered. */
  idle(): void;
  /** Closes after what was sent has arrived. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** One transmission phase. `pump` is called whenever bytes have arrived. */
export class Session {
  readonly #host: SessionHost;
  readonly #resources: Resources;
  readonly #agreed: Agreed;
  readonly #agreement: Agreement;
  readonly #receiver: Receiver;
  readonly #replies: Replies;
  readonly #account: Account;
  readonly #reads: Reads;
  readonly #intake: Intake;
  readonly #header = newRequestHeader();
  #running = 0;
  #taken = 0;
  #state: 'open' | 'stopping' | 'leaving' | 'closed' = 'open';
  #blocked = false;

  constructor(host: SessionHost, resources: Resources, agreed: Agreed, receiver: Receiver, replies: Replies) {
    this.#host = host;
    this.#resources = resources;
    this.#agreed = agreed;
    this.#receiver = receiver;
    this.#replies = replies;
    const { served, structured } = agreed;
    this.#agreement = {
      size: served.source.size,
      writable: served.device !== undefined,
      structured,
      contexts: agreed.contexts.size > 0,
    };
    this.#account = new Account(resources.budget, ownAllowance);
    this.#reads = new Reads(served.source, structured, replies);
    this.#intake = new Intake(receiver, resources.pool, this.#account);
  }

  /** True: nothing may be received until `unblocked`. */
  get blocked(): boolean {
    return this.#blocked || this.#state === 'leaving' || this.#state === 'closed';
  }

  /** True while requests are under way or replies are on their way. */
  get busy(): boolean {
    return this.#running > 0 || this.#replies.busy;
  }

  /** Requests that the disk works on. */
  get running(): number {
    return this.#running;
  }

  /** Bytes held out of the budget of all connections. */
  get owed(): number {
    return this.#account.owed;
  }

  /** Takes all requests that have arrived and that there is room for. */
  pump(): void {
    this.#takeAll();
    this.#replies.flush();
    if (this.#taken > 0) this.#resources.wakefulness?.served(this.#taken, this.#running);
  }

  /** Something that blocked may be gone. */
  readonly retry = (): void => {
    if (!this.#blocked) return;
    this.#takeAll();
    this.#replies.flushSoon();
    if (!this.blocked) this.#host.unblocked();
  };

  /** Requests that come from now on are refused. */
  stop(): void {
    if (this.#state === 'open') this.#state = 'stopping';
  }

  /** The client sends no more; what it has asked for is answered. */
  ended(): void {
    this.#leave();
  }

  /** The connection is gone. What the disk works on goes on, and is answered to nobody. */
  closed(): void {
    this.#state = 'closed';
    this.#blocked = false;
    this.#resources.budget.forget(this.retry);
    this.#intake.dispose();
  }

  #takeAll(): void {
    this.#blocked = false;
    this.#taken = 0;
    while (this.#step()) {}
  }

  /** Takes one request, or more of a payload. False: there is nothing to take, or no room. */
  #step(): boolean {
    if (this.#state === 'leaving' || this.#state === 'closed') return false;
    if (this.#intake.busy) return this.#takeArrived();
    const receiver = this.#receiver;
    if (receiver.available < requestHeaderLength) return false;
    const header = this.#header;
    if (!readRequestHeader(receiver.bytes, receiver.at, header)) return this.#cutOff();
    if (header.command === Command.disconnect) {
      this.#leave();
      return false;
    }
    const taken = this.#full ? 'full' : this.#take(header);
    if (taken === 'abusive') return this.#cutOff();
    this.#blocked = taken === 'full';
    return taken === 'taken';
  }

  get #full(): boolean {
    return (
      this.#running >= requestsInFlight ||
      this.#replies.held >= heldReplies ||
      this.#receiver.blocks > receiveBlocks
    );
  }

  #take(header: RequestHeader): Taken {
    const refusal = this.#state === 'open' ? validate(header, this.#agreement) : stopping;
    if (header.command === Command.write) return this.#intake.begin(header, refusal, this.retry);
    if (refusal) this.#refuse(header, refusal);
    else if (!this.#start(header)) return 'full';
    this.#receiver.advance(requestHeaderLength);
    this.#taken++;
    return 'taken';
  }

  #takeArrived(): boolean {
    const arrived = this.#intake.arrived();
    if (arrived === undefined) return false;
    this.#taken++;
    if ('refusal' in arrived) this.#refuse(arrived.request, arrived.refusal);
    else this.#perform(arrived.request, arrived.payload, arrived.release);
    return true;
  }

  /** Carries out anything but a WRITE. False: there is no room for it now. */
  #start(header: RequestHeader): boolean {
    if (header.command === Command.read) return this.#read(header);
    if (header.command === Command.blockStatus) this.#status({ ...header });
    else this.#perform({ ...header });
    return true;
  }

  #read(header: RequestHeader): boolean {
    const { structured } = this.#agreement;
    try {
      if (header.length === 0) answerDone(this.#replies, header, structured);
      else if (this.#isBetterBeside(header) || !this.#reads.tryAnswer(header))
        return this.#readWaiting(header);
    } catch (error) {
      this.#refuse(header, this.#refusalOf(error, header));
    }
    return true;
  }

  /** Whether a READ should not hold up the loop, because another request is there for it to work on. */
  #isBetterBeside(header: RequestHeader): boolean {
    const more = this.#running > 0 || this.#receiver.available >= 2 * requestHeaderLength;
    return more && header.length >= longRead;
  }

  /** A READ that has to wait, in a buffer of its own. */
  #readWaiting(header: RequestHeader): boolean {
    const length = pooledLength(readBufferLength(header.length));
    if (!this.#account.tryTake(length, this.retry)) return false;
    const buffer = this.#resources.pool.take(length);
    const release = (): void => {
      this.#resources.pool.give(buffer);
      this.#account.give(length);
    };
    const request = { ...header };
    this.#run(request, this.#reads.fill(request, buffer), release, (filled) => {
      if (filled <= copiedReply) {
        this.#replies.append(buffer, filled);
        release();
      } else {
        this.#replies.send(buffer, filled, release);
      }
    });
    return true;
  }

  #status(request: RequestHeader): void {
    const work = blockStatusReply(request, this.#agreed.contexts);
    this.#run(request, work, nothing, (reply) => this.#replies.send(reply, reply.length, nothing));
  }

  #perform(request: RequestHeader, payload?: Buffer, release = nothing): void {
    const work = perform(request, this.#agreed.served, payload, this.#resources.pool);
    this.#run(request, work, release, () => {
      answerDone(this.#replies, request, this.#agreement.structured);
      release();
    });
  }

  /** Counts `work` as under way until it settles. `answer` uses what `release` gives back, or neither happens. */
  #run<T>(request: RequestHeader, work: Promise<T>, release: () => void, answer: (value: T) => void): void {
    this.#running++;
    work.then(
      (value) => {
        if (this.#state === 'closed') release();
        else answer(value);
        this.#finished();
      },
      (error: unknown) => {
        release();
        const refusal = this.#refusalOf(error, request);
        if (this.#state !== 'closed') this.#refuse(request, refusal);
        this.#finished();
      },
    );
  }

  #finished(): void {
    this.#running--;
    if (this.#state === 'closed') {
      if (this.#running === 0) this.#host.idle();
      return;
    }
    this.#replies.flushSoon();
    this.#resources.wakefulness?.served(1, this.#running);
    this.retry();
    if (this.#running > 0) return;
    if (this.#state === 'leaving') this.#end();
    else this.#host.idle();
  }

  #refuse(request: RequestHeader, refusal: Refusal): void {
    answerRefusal(this.#replies, request, this.#agreement.structured, refusal);
  }

  #refusalOf(error: unknown, request: RequestHeader): Refusal {
    return refusalOf(error, request, this.#resources.report);
  }

  /** Takes no more requests, and ends when those under way are answered. */
  #leave(): void {
    if (this.#state === 'leaving' || this.#state === 'closed') return;
    this.#state = 'leaving';
    if (this.#running === 0) this.#end();
  }

  #end(): void {
    this.#replies.flush();
    this.#host.end();
  }

  /** The client has broken the protocol so that it cannot be followed, or abuses it. */
  #cutOff(): false {
    this.#state = 'leaving';
    this.#host.destroy();
    return false;
  }
}

const nothing = (): void => undefined;
