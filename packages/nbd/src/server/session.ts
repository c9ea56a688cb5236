/**
 * The transmission phase of one connection: requests in, replies out.
 *
 * What can be answered at once is answered while the requests are parsed, straight into the block that is
 * sent when all that arrived together is answered. What has to wait runs beside it, bounded in number and
 * bytes; while a bound is reached nothing is parsed and nothing is received.
 *
 * Spec: proto.md, "Transmission"
 */
import { decodeStatusQuery } from '../protocol/extents.ts';
import { Command, CommandFlag } from '../protocol/numbers.ts';
import {
  extendedRequestHeaderLength,
  newRequestHeader,
  type RequestHeader,
  readExtendedRequestHeader,
  readRequestHeader,
  requestHeaderLength,
} from '../protocol/request.ts';
import { Counters } from './counters.ts';
import { Execution, type ExecutionHost, type Resources } from './execution.ts';
import type { Agreed } from './handshake.ts';
import { Intake, type Taken } from './intake.ts';
import { heldReplies, receiveBlocks, requestsInFlight } from './limits.ts';
import type { Receiver } from './receiver.ts';
import { stopping, unknownContexts } from './refusal.ts';
import type { Replies } from './replies.ts';
import { type Agreement, hasPayload, validate } from './validate.ts';

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
export class Session implements ExecutionHost {
  readonly #host: SessionHost;
  readonly #resources: Resources;
  readonly #agreement: Agreement;
  readonly #receiver: Receiver;
  readonly #replies: Replies;
  readonly #execution: Execution;
  readonly #intake: Intake;
  readonly #header = newRequestHeader();
  readonly #readHeader: typeof readRequestHeader;
  readonly #headerLength: number;
  /** What this client has asked for. */
  readonly counters = new Counters();
  #taken = 0;
  #state: 'open' | 'stopping' | 'leaving' | 'closed' = 'open';
  #blocked = false;

  constructor(host: SessionHost, resources: Resources, agreed: Agreed, receiver: Receiver, replies: Replies) {
    this.#host = host;
    this.#resources = resources;
    this.#receiver = receiver;
    this.#replies = replies;
    const { served, style } = agreed;
    const isExtended = style === 'extended';
    this.#readHeader = isExtended ? readExtendedRequestHeader : readRequestHeader;
    this.#headerLength = isExtended ? extendedRequestHeaderLength : requestHeaderLength;
    this.#agreement = {
      size: served.source.size,
      writable: served.device !== undefined,
      style,
      contexts: agreed.contexts.size,
      minimumBlock: agreed.sizes.minimum,
      maximumPayload: agreed.sizes.maximumPayload,
    };
    this.#execution = new Execution(this, resources, agreed, replies);
    this.#intake = new Intake(receiver, resources.pool, this.#execution.account, style);
  }

  /** True: nothing may be received until `unblocked`. */
  get blocked(): boolean {
    return this.#blocked || this.#state === 'leaving' || this.#state === 'closed';
  }

  /** True while requests are under way or replies are on their way. */
  get busy(): boolean {
    return this.#execution.running > 0 || this.#replies.busy;
  }

  /** Requests that the disk works on. */
  get running(): number {
    return this.#execution.running;
  }

  /** Bytes held out of the budget of all connections. */
  get owed(): number {
    return this.#execution.account.owed;
  }

  /** Takes all requests that have arrived and that there is room for. */
  pump(): void {
    this.#takeAll();
    this.#replies.flush();
    if (this.#taken > 0) this.#resources.wakefulness?.served(this.#taken, this.running);
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
    this.#execution.close();
    this.#resources.budget.forget(this.retry);
    this.#intake.dispose();
  }

  finished(): void {
    this.retry();
    if (this.running > 0) return;
    if (this.#state === 'leaving') this.#end();
    this.#host.idle();
  }

  refused(): void {
    this.counters.failed++;
  }

  broken(error: unknown): void {
    this.#resources.report(error);
    this.#cutOff();
  }

  #takeAll(): void {
    this.#blocked = false;
    this.#taken = 0;
    try {
      while (this.#step()) {}
    } catch (error) {
      this.broken(error);
    }
  }

  /** Takes one request, or more of a payload. False: there is nothing to take, or no room. */
  #step(): boolean {
    if (this.#state === 'leaving' || this.#state === 'closed') return false;
    if (this.#intake.busy) return this.#takeArrived();
    const receiver = this.#receiver;
    if (receiver.available < this.#headerLength) return false;
    const header = this.#header;
    if (!this.#readHeader(receiver.bytes, receiver.at, header)) return this.#cutOff();
    if (header.command === Command.disconnect) return this.#leave();
    const taken = this.#full ? 'full' : this.#take(header);
    if (taken === 'abusive') return this.#cutOff();
    this.#blocked = taken === 'full';
    return taken === 'taken';
  }

  get #full(): boolean {
    return (
      this.running >= requestsInFlight ||
      this.#replies.held >= heldReplies ||
      this.#receiver.blocks > receiveBlocks
    );
  }

  #take(header: RequestHeader): Taken {
    const refusal = this.#state === 'open' ? validate(header, this.#agreement) : stopping;
    if (hasPayload(header, this.#agreement.style)) return this.#intake.begin(header, refusal, this.retry);
    const more = this.#receiver.available >= 2 * this.#headerLength;
    if (refusal) this.#execution.refuse(header, refusal);
    else if (this.#execution.start(header, more, this.retry)) this.counters.count(header);
    else return 'full';
    this.#receiver.advance(this.#headerLength);
    this.#taken++;
    return 'taken';
  }

  #takeArrived(): boolean {
    const arrived = this.#intake.arrived();
    if (arrived === undefined) return false;
    this.#taken++;
    const { request } = arrived;
    if ('refusal' in arrived) this.#execution.refuse(request, arrived.refusal);
    else if (request.command === Command.blockStatus) this.#takeStatus(request, arrived);
    else {
      this.counters.count(request);
      this.#execution.write(request, arrived.payload, arrived.release);
    }
    return true;
  }

  /** A block status of some contexts only, which its payload names. */
  #takeStatus(request: RequestHeader, arrived: { readonly payload: Buffer; release(): void }): void {
    const query = decodeStatusQuery(arrived.payload);
    arrived.release();
    const asked = {
      ...request,
      flags: request.flags & ~CommandFlag.payloadLength,
      length: query?.length ?? 0,
    };
    const contexts = query && this.#execution.contextsOf(query.contextIds);
    const refusal = validate(asked, this.#agreement);
    if (contexts === undefined) this.#execution.refuse(request, unknownContexts);
    else if (refusal) this.#execution.refuse(request, refusal);
    else {
      this.counters.count(asked);
      this.#execution.status(asked, contexts);
    }
  }

  /** Takes no more requests, and ends when those under way are answered. */
  #leave(): false {
    if (this.#state === 'leaving' || this.#state === 'closed') return false;
    this.#state = 'leaving';
    if (this.running === 0) this.#end();
    return false;
  }

  #end(): void {
    this.#replies.flush();
    this.#host.end();
  }

  /** The client cannot be followed any more, or abuses the protocol, or we have failed it. */
  #cutOff(): false {
    if (this.#state !== 'closed') this.#state = 'leaving';
    this.#host.destroy();
    return false;
  }
}
