/**
 * A negotiation as a generator, and what runs it over a connection.
 *
 * The generator says what to send and how many bytes it must see next, and gets exactly these. It knows no
 * socket, so hostile servers are tables of bytes in its tests, and because it runs inside `ByteSink.received`
 * not one byte is read beyond what it asked for: what takes over afterwards starts on a clean stream.
 */
import { DiskError } from '@strata/block';
import type { ClientTls } from '../tls/credentials.ts';
import { type ByteSink, connect, type Transport } from './connect.ts';
import type { NbdAddress } from './uri.ts';

/** What a negotiation needs next: to have `send` sent, and then to receive `take` bytes; or TLS. */
type Step =
  | {
      readonly send?: Uint8Array;
      /** 0: go on at once. */
      readonly take: number;
    }
  | { readonly secure: true };

/** Receives what it asked for; the end of the connection is thrown into it as a DiskError. */
export type Negotiation<T> = Generator<Step, T, Buffer>;

/** Bounds on the time before a connection can be used. */
export interface ConnectOptions {
  /** Ends the attempt with `aborted`; no effect once connected. */
  readonly signal?: AbortSignal | undefined;
  /** For connecting and negotiating together, in milliseconds; 30,000 if not given. */
  readonly connectTimeoutMs?: number | undefined;
  /** Not given: everything is plain text. */
  readonly tls?: ClientTls | undefined;
}

/**
 * Connects, negotiates, and hands the connection to `takeOver`, which must give it a new sink or end it.
 * After any failure the connection is gone.
 *
 * @throws {DiskError} not-found, denied, io for a server that cannot be reached or does not answer in time,
 *   aborted, closed, and what the negotiation throws
 */
export function perform<T, R>(
  address: NbdAddress,
  negotiation: Negotiation<T>,
  takeOver: (result: T, transport: Transport) => R | Promise<R>,
  options: ConnectOptions = {},
): Promise<R> {
  const { signal, connectTimeoutMs = 30_000 } = options;
  return new Promise((resolve, reject) => {
    const aborted = (): DiskError =>
      new DiskError('aborted', 'the connection attempt was aborted', { cause: signal?.reason });
    if (signal?.aborted) throw aborted();
    const abort = (): void => transport.destroy(aborted());
    const settle = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    const sink = new NegotiationSink(negotiation, {
      send: (bytes) => transport.send([bytes]),
      secure: (secured) => transport.secure(secured),
      done: (result) => {
        settle();
        resolve(takeOver(result, transport));
      },
      failed: (error) => {
        settle();
        transport.destroy(new DiskError('closed', 'the negotiation failed'));
        reject(error);
      },
    });
    const transport = connect(address, sink, options.tls);
    const timer = setTimeout(() => {
      transport.destroy(new DiskError('io', `the server did not answer within ${connectTimeoutMs / 1000} s`));
    }, connectTimeoutMs);
    signal?.addEventListener('abort', abort);
  });
}

interface Outcome<T> {
  send(bytes: Uint8Array): void;
  secure(secured: () => void): void;
  done(result: T): void;
  failed(error: unknown): void;
}

class NegotiationSink<T> implements ByteSink {
  readonly #negotiation: Negotiation<T>;
  readonly #outcome: Outcome<T>;
  #message = Buffer.alloc(1);
  #filled = 0;
  #over = false;
  #securing = false;

  constructor(negotiation: Negotiation<T>, outcome: Outcome<T>) {
    this.#negotiation = negotiation;
    this.#outcome = outcome;
    this.#advance(() => negotiation.next());
  }

  target(): Uint8Array {
    return this.#over || this.#securing ? Buffer.alloc(1) : this.#message.subarray(this.#filled);
  }

  received(count: number): void {
    this.#filled += count;
    if (this.#over || this.#filled < this.#message.length) return;
    this.#advance(() => this.#negotiation.next(this.#message));
  }

  ended(reason: DiskError): void {
    if (!this.#over) this.#advance(() => this.#negotiation.throw(reason));
  }

  /** Goes on until bytes are needed. */
  #advance(first: () => IteratorResult<Step, T>): void {
    let next = first;
    for (;;) {
      let result: IteratorResult<Step, T>;
      try {
        result = next();
      } catch (error) {
        this.#over = true;
        this.#outcome.failed(error);
        return;
      }
      if (result.done) {
        this.#over = true;
        this.#outcome.done(result.value);
        return;
      }
      if ('secure' in result.value) {
        this.#securing = true;
        this.#outcome.secure(() => {
          this.#securing = false;
          this.#advance(() => this.#negotiation.next(this.#message));
        });
        return;
      }
      const { send, take } = result.value;
      if (send !== undefined && send.length > 0) this.#outcome.send(send);
      this.#message = Buffer.allocUnsafe(take);
      this.#filled = 0;
      if (take > 0) return;
      next = () => this.#negotiation.next(this.#message);
    }
  }
}
