/**
 * Bytes that were received before the listener could take them: while it had paused, or more than it had room for.
 *
 * They are copied to where the listener wants them when it goes on. Nothing is kept while it keeps up.
 */
import type { Socket } from 'node:net';
import type { OnRead } from '../wire/in-place.ts';
import type { TransportListener } from './transport.ts';

/** As long as the longest TLS record, which is all that is received at a time. */
const scratchLength = 16 * 1024;

/** Between a socket and the listener of its transport. */
export class Spill {
  readonly #listener: TransportListener;
  #rest: Buffer | undefined;
  #isPaused = false;
  #scratch: Buffer | undefined;
  /** The last buffer that was given out is `#scratch`. */
  #isSpilling = false;

  constructor(listener: TransportListener) {
    this.#listener = listener;
  }

  /** Takes what is received from 'data' events. */
  attach(socket: Socket): void {
    socket.on('data', this.#keep);
  }

  /** Takes no more. False: there are bytes that the listener has not got. */
  detach(socket: Socket): boolean {
    socket.off('data', this.#keep);
    return this.#rest === undefined;
  }

  /** Takes what is received in place: into the listener's buffers while it wants them. */
  readonly onRead: OnRead = {
    buffer: () => {
      this.#isSpilling = this.#isPaused || this.#rest !== undefined;
      if (!this.#isSpilling) return this.#listener.space();
      this.#scratch ??= Buffer.allocUnsafeSlow(scratchLength);
      return this.#scratch;
    },
    callback: (length) => {
      if (this.#isSpilling) this.#keep(Buffer.from((this.#scratch as Buffer).subarray(0, length)));
      else this.#listener.received(length);
    },
  };

  pause(): void {
    this.#isPaused = true;
  }

  /** Hands over what was kept. */
  resume(): void {
    this.#isPaused = false;
    this.#deliver();
  }

  readonly #keep = (chunk: Buffer): void => {
    this.#rest = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#deliver();
  };

  #deliver(): void {
    while (this.#rest !== undefined && !this.#isPaused) {
      const space = this.#listener.space();
      const length = this.#rest.copy(space);
      this.#rest = length < this.#rest.length ? this.#rest.subarray(length) : undefined;
      this.#listener.received(length);
    }
  }
}
