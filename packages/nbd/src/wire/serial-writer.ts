/**
 * Writes to a TLS socket one buffer at a time.
 *
 * Node encrypts a single buffer where it lies, but copies several that have gathered into one first. So a buffer waits
 * here until the one before it has gone.
 *
 * A write of nothing makes Node decrypt what has arrived at once, also in the middle of a chunk that is being received,
 * which puts bytes out of order. So nothing is never written.
 */
import type { Socket } from 'node:net';

interface Waiting {
  readonly bytes: Uint8Array;
  readonly sent: (() => void) | undefined;
}

/** The writes of one socket. */
export class SerialWriter {
  readonly #socket: Socket;
  readonly #waiting: Waiting[] = [];
  #current: Waiting | undefined;
  #onEnd: (() => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('close', () => this.#abandon());
  }

  /** `bytes` stay unchanged until `sent` is called: once, and also if the connection is lost. */
  write(bytes: Uint8Array, sent?: () => void): void {
    if (bytes.length === 0 || !this.#socket.writable || this.#onEnd !== undefined) {
      if (sent) process.nextTick(sent);
    } else if (this.#current !== undefined) {
      this.#waiting.push({ bytes, sent });
    } else {
      this.#write({ bytes, sent });
    }
  }

  /** Takes no more writes; when those it has taken have gone, says that nothing follows, and calls `ended`. */
  end(ended: () => void): void {
    if (this.#onEnd !== undefined) return;
    this.#onEnd = ended;
    if (this.#current === undefined) this.#socket.end(ended);
  }

  #write(current: Waiting): void {
    this.#current = current;
    this.#socket.write(current.bytes, () => {
      if (this.#current !== current) return;
      this.#current = undefined;
      const next = this.#waiting.shift();
      if (next !== undefined) this.#write(next);
      else if (this.#onEnd !== undefined) this.#socket.end(this.#onEnd);
      current.sent?.();
    });
  }

  #abandon(): void {
    const left = [...(this.#current === undefined ? [] : [this.#current]), ...this.#waiting.splice(0)];
    this.#current = undefined;
    for (const { sent } of left) sent?.();
  }
}
