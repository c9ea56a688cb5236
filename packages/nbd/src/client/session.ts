/**
 * The transmission phase of one connection: many requests in flight, sent in batches.
 *
 * Requests that are made in one turn of the event loop, also by the continuations of replies that came together, go
 * out in one write: they are sent from a `nextTick`, which runs when all of these have run. Payloads of writes are
 * sent from the caller's memory. No more than `mostInFlight` requests are on the wire; the others wait here, as
 * small objects.
 *
 * When the connection is lost, or the server breaks the protocol, every request fails with the reason, and so
 * do all later ones. There is no reconnecting.
 *
 * Spec: proto.md, "Transmission"
 */
import { nextTick } from 'node:process';
import { DiskError } from '@strata/block';
import { type BlockStatus, encodeStatusQuery } from '../protocol/extents.ts';
import { Command, CommandFlag, TransmissionFlag } from '../protocol/numbers.ts';
import {
  extendedRequestHeaderLength,
  requestHeaderLength,
  writeExtendedRequestHeader,
  writeRequestHeader,
} from '../protocol/request.ts';
import type { Transport } from './connect.ts';
import type { Negotiated } from './handshake.ts';
import { InFlight } from './in-flight.ts';
import { ReplyReader } from './replies.ts';
import { PendingRequest, type RequestParts } from './request.ts';

/** Twice what servers work on at a time and more; enough to keep a connection busy. */
const mostInFlight = 128;

/** Places of answered requests in the queue that are worth a copy of the rest. */
const compactFrom = 1024;

/** A request without a payload of its own. */
export interface PlainRequest {
  /** Of `Command`. */
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  /** Of `CommandFlag`. */
  readonly flags?: number;
}

/** Sends requests as they are given: whether the server offers them, and what sizes it takes, is the caller's to know. */
export class Session {
  /** What the connection was negotiated to be. */
  readonly negotiated: Negotiated;
  readonly #transport: Transport;
  readonly #isExtended: boolean;
  readonly #headerLength: number;
  readonly #path: string | undefined;
  readonly #inFlight = new InFlight(mostInFlight);
  readonly #waiting: PendingRequest[] = [];
  #nextWaiting = 0;
  /** Writes that were answered before the socket had done with their payload. */
  readonly #early = new Set<PendingRequest>();
  #scheduled = false;
  #lost: DiskError | undefined;
  #gone: Promise<void> | undefined;

  /**
   * Takes over the connection: to be called in the same turn in which the negotiation ended.
   * @param path the URI of the disk, for errors
   */
  constructor(transport: Transport, negotiated: Negotiated, path?: string) {
    this.#path = path;
    this.negotiated = negotiated;
    this.#transport = transport;
    this.#isExtended = negotiated.style === 'extended';
    this.#headerLength = this.#isExtended ? extendedRequestHeaderLength : requestHeaderLength;
    const inFlight = this.#inFlight;
    transport.sink = new ReplyReader({
      style: negotiated.style,
      contextIds: negotiated.contexts.map(({ id }) => id),
      get onlyLargeReads() {
        return inFlight.onlyLargeReads;
      },
      find: (cookieHigh, cookieLow) => inFlight.find(cookieHigh, cookieLow),
      finished: (request) => this.#finished(request),
      failed: (error) => this.#failed(error),
      ended: (reason) => this.#fail(reason),
    });
  }

  /** Why nothing can be asked any more; undefined while all is well. */
  get lost(): DiskError | undefined {
    return this.#lost;
  }

  /** True if no request waits or is under way. */
  get isIdle(): boolean {
    return this.#inFlight.count === 0 && this.#nextWaiting === this.#waiting.length;
  }

  /** `into` is filled in place. @throws {DiskError} as the server answers; closed, protocol when it is lost */
  read(into: Uint8Array, offset: number): Promise<void> {
    const statuses: Promise<unknown> = this.#request(
      { command: Command.read, offset, length: into.length },
      { into },
    );
    return statuses as Promise<void>;
  }

  /** `from` is sent from where it is. @throws {DiskError} as `read` */
  write(from: Uint8Array, offset: number): Promise<void> {
    const statuses: Promise<unknown> = this.#request(
      { command: Command.write, offset, length: from.length },
      { from },
    );
    return statuses as Promise<void>;
  }

  /**
   * A BLOCK_STATUS of these contexts, or of all that were negotiated where the server does not take a choice. Gives one
   * chunk a context. @throws {DiskError} as `read`
   */
  status(offset: number, length: number, contextIds: readonly number[]): Promise<readonly BlockStatus[]> {
    const { contexts, flags } = this.negotiated;
    const request = { command: Command.blockStatus, offset, length };
    const canChoose = (flags & TransmissionFlag.blockStatusPayload) !== 0;
    if (!canChoose || contextIds.length === contexts.length) return this.#request(request, {});
    return this.#request(request, { from: encodeStatusQuery({ length, contextIds }), contextIds });
  }

  /** Any other request. @throws {DiskError} as `read` */
  send(request: PlainRequest): Promise<readonly BlockStatus[]> {
    return this.#request(request, {});
  }

  /** Tells the server that this is the end, and resolves when the connection is gone. What is in flight fails. */
  close(): Promise<void> {
    this.#fail(new DiskError('closed', 'the disk is closed'));
    this.#gone ??= this.#disconnect();
    return this.#gone;
  }

  #request(
    request: PlainRequest,
    payload: Pick<RequestParts, 'into' | 'from' | 'contextIds'>,
  ): Promise<readonly BlockStatus[]> {
    return new Promise((resolve, reject) => {
      const pending = new PendingRequest({
        flags: 0,
        path: this.#path,
        ...request,
        ...payload,
        resolve,
        reject,
      });
      if (this.#lost !== undefined) return pending.abandon(this.#lost);
      this.#waiting.push(pending);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    nextTick(this.#sendWaiting);
  }

  readonly #sendWaiting = (): void => {
    this.#scheduled = false;
    const count = Math.min(this.#waiting.length - this.#nextWaiting, this.#inFlight.room);
    if (count === 0 || this.#lost !== undefined) return;
    const headers = Buffer.allocUnsafe(count * this.#headerLength);
    const chunks: Uint8Array[] = [];
    const writes: PendingRequest[] = [];
    let from = 0;
    for (let index = 0; index < count; index++) {
      const request = this.#waiting[this.#nextWaiting++] as PendingRequest;
      this.#inFlight.add(request);
      const to = (index + 1) * this.#headerLength;
      this.#encode(request, headers, to - this.#headerLength);
      if (request.parts.from === undefined) continue;
      chunks.push(headers.subarray(from, to), request.parts.from);
      from = to;
      request.sending = true;
      writes.push(request);
    }
    if (from < headers.length) chunks.push(headers.subarray(from));
    this.#dropTaken();
    this.#transport.send(chunks, writes.length === 0 ? undefined : () => this.#sent(writes));
  };

  #dropTaken(): void {
    if (this.#nextWaiting < this.#waiting.length && this.#nextWaiting < compactFrom) return;
    this.#waiting.splice(0, this.#nextWaiting);
    this.#nextWaiting = 0;
  }

  #sent(writes: readonly PendingRequest[]): void {
    for (const request of writes) {
      request.sending = false;
      if (this.#early.delete(request)) request.settle();
    }
  }

  #finished(request: PendingRequest): void {
    this.#inFlight.remove(request);
    if (request.sending) this.#early.add(request);
    else request.settle();
    if (request.lastWords) this.#lost ??= new DiskError('closed', 'the server is shutting down');
    if (this.#lost !== undefined) this.#leaveWhenIdle(this.#lost);
    else if (this.#nextWaiting < this.#waiting.length) this.#schedule();
  }

  /** A server that is shutting down gets no new requests, and a farewell when it has answered the old ones. */
  #leaveWhenIdle(reason: DiskError): void {
    for (const request of this.#takeWaiting()) request.abandon(reason);
    if (this.#inFlight.count === 0) this.#gone ??= this.#disconnect();
  }

  #failed(error: unknown): void {
    const reason =
      error instanceof DiskError ? error : new DiskError('protocol', String(error), { cause: error });
    this.#fail(reason);
    this.#transport.destroy(reason);
  }

  #fail(reason: DiskError): void {
    this.#lost ??= reason;
    for (const request of this.#inFlight.clear()) request.abandon(reason);
    for (const request of this.#takeWaiting()) request.abandon(reason);
    for (const request of this.#early) request.settle();
    this.#early.clear();
  }

  #takeWaiting(): readonly PendingRequest[] {
    const waiting = this.#waiting.splice(this.#nextWaiting);
    this.#waiting.length = this.#nextWaiting = 0;
    return waiting;
  }

  #disconnect(): Promise<void> {
    const header = Buffer.alloc(this.#headerLength);
    const write = this.#isExtended ? writeExtendedRequestHeader : writeRequestHeader;
    write(header, 0, {
      flags: 0,
      command: Command.disconnect,
      cookieHigh: 0,
      cookieLow: 0,
      offset: 0,
      length: 0,
    });
    this.#transport.send([header]);
    return this.#transport.end();
  }

  #encode({ parts, cookieHigh, cookieLow }: PendingRequest, into: Buffer, at: number): void {
    const { command, offset, from } = parts;
    if (!this.#isExtended) {
      const { length } = parts;
      writeRequestHeader(into, at, { flags: parts.flags, command, cookieHigh, cookieLow, offset, length });
      return;
    }
    const length = from?.length ?? parts.length;
    const flags = from === undefined ? parts.flags : parts.flags | CommandFlag.payloadLength;
    writeExtendedRequestHeader(into, at, { flags, command, cookieHigh, cookieLow, offset, length });
  }
}
