/**
 * Connections that are made anew when they are lost, for a while.
 *
 * Requests that had no answer are sent again: every one of them does the same at its offset however often it is
 * done. What was answered is another matter. A server that went away may have taken writes with it that were not
 * flushed, so after such a loss nothing is changed any more and no flush succeeds; what is there can still be read.
 *
 * A server that breaks the protocol is not asked again, and an export that has changed is another disk.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { DiskError, isDiskError } from '@strata/block';
import type { BlockStatus } from '../protocol/extents.ts';
import { Command } from '../protocol/numbers.ts';
import { type Connections, isAlike } from './connections.ts';
import type { Negotiated } from './handshake.ts';
import type { PlainRequest } from './session.ts';
import type { Requests } from './transfer.ts';
import { changesLost, Unflushed } from './unflushed.ts';

/** Between two attempts: at first short, then longer. */
const firstPauseMs = 50;
const longestPauseMs = 1000;
/** Connections in a row that end before they have answered anything: the server may die of what it is asked. */
const mostFruitless = 8;

/** How to connect, and for how long to try. */
export interface ReconnectOptions {
  /** From the loss on, in milliseconds; then everything fails for good. */
  readonly delayMs: number;
  open(signal: AbortSignal): Promise<Connections>;
  /** The connections are other ones: what was learnt of the export may be out of date. */
  renewed(): void;
}

/** One export over connections that may change. Requests of it go through `next`. */
export class Reconnecting implements Requests {
  readonly negotiated: Negotiated;
  readonly #options: ReconnectOptions;
  readonly #closing = new AbortController();
  readonly #unflushed = new Unflushed();
  #connections: Connections;
  /** Connections that were lost since the last answer. */
  #fruitless = 0;
  #renewing: Promise<void> | undefined;
  #poison: DiskError | undefined;
  #lost: DiskError | undefined;

  constructor(connections: Connections, options: ReconnectOptions) {
    this.#connections = connections;
    this.#options = options;
    this.negotiated = connections.negotiated;
  }

  next(): Requests {
    return this;
  }

  /** Why nothing can be asked any more; undefined also while the connection is being made anew. */
  get lost(): DiskError | undefined {
    return this.#lost ?? this.#poison;
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    return this.#persist((session) => session.read(into, offset), 'read');
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    return this.#persist((session) => session.write(from, offset), 'change');
  }

  status(offset: number, length: number, contextIds: readonly number[]): Promise<readonly BlockStatus[]> {
    return this.#persist((session) => session.status(offset, length, contextIds), 'read');
  }

  send(request: PlainRequest): Promise<readonly BlockStatus[]> {
    if (request.command === Command.flush) return this.#flush(request);
    const changes = request.command === Command.trim || request.command === Command.writeZeroes;
    return this.#persist((session) => session.send(request), changes ? 'change' : 'read');
  }

  async #flush(request: PlainRequest): Promise<readonly BlockStatus[]> {
    const flushed = this.#unflushed.flushing();
    const answer = await this.#persist((session) => session.send(request), 'flush');
    flushed();
    return answer;
  }

  /** What waits for a connection fails, and none is made anew any more. What a connection is busy with goes on. */
  giveUp(): void {
    this.#closing.abort();
    if (this.#renewing) this.#lost ??= new DiskError('closed', 'the disk is closed');
  }

  /** Takes leave. */
  async close(): Promise<void> {
    this.giveUp();
    this.#lost ??= new DiskError('closed', 'the disk is closed');
    await this.#renewing;
    await this.#connections.close();
    if (this.#poison) throw this.#poison;
  }

  async #persist<T>(work: (session: Requests) => Promise<T>, kind: 'read' | 'change' | 'flush'): Promise<T> {
    for (;;) {
      if (this.#renewing) await this.#renewing;
      const refusal = this.#lost ?? (kind === 'read' ? undefined : this.#poison);
      if (refusal) throw refusal;
      const connections = this.#connections;
      try {
        const answer = await work(connections.next());
        this.#fruitless = 0;
        if (kind === 'change') this.#unflushed.changed();
        return answer;
      } catch (error) {
        if (!isLoss(error, connections.lost)) throw error;
        if (connections === this.#connections) this.#renewing ??= this.#renew(connections, connections.lost);
      }
    }
  }

  /** Never rejects. Afterwards there are new connections, or `#lost` is set. */
  async #renew(old: Connections, reason: DiskError): Promise<void> {
    const { delayMs, open, renewed } = this.#options;
    if (this.#unflushed.any) this.#poison ??= changesLost(reason);
    const { signal } = this.#closing;
    const deadline = performance.now() + delayMs;
    await Promise.allSettled([old.close()]);
    if (signal.aborted || ++this.#fruitless > mostFruitless) this.#lost ??= reason;
    for (let waitMs = firstPauseMs; this.#lost === undefined; waitMs = Math.min(2 * waitMs, longestPauseMs)) {
      try {
        const left = Math.max(1, Math.ceil(deadline - performance.now()));
        const connections = await open(AbortSignal.any([signal, AbortSignal.timeout(left)]));
        await this.#take(connections);
        renewed();
        break;
      } catch (error) {
        if (isFinal(error)) this.#lost ??= error;
        else if (performance.now() + waitMs >= deadline) this.#lost ??= reason;
        else await pause(waitMs, undefined, { signal }).catch(() => undefined);
      }
    }
    this.#renewing = undefined;
  }

  async #take(connections: Connections): Promise<void> {
    if (isAlike(connections.negotiated, this.negotiated)) {
      this.#connections = connections;
      return;
    }
    await connections.close();
    throw new DiskError('protocol', 'the export has changed while the connection was lost');
  }
}

/** A request that failed because its connection did; one that the server refused is none. */
function isLoss(error: unknown, lost: DiskError | undefined): lost is DiskError {
  return lost !== undefined && isDiskError(lost, 'closed', 'io') && isDiskError(error, 'closed', 'io');
}

function isFinal(error: unknown): error is DiskError {
  return !isDiskError(error) || isDiskError(error, 'protocol', 'limit', 'not-supported', 'invalid');
}
