/**
 * One client of a server: its messages are answered one at a time, in their order.
 *
 * Nothing is read from a client while a message of it is worked on, or while it leaves answers lying; so what it can make
 * the server hold is bounded. Events go out at once: between two replies, or before the reply of the command that
 * caused them. A client that leaves those lying too is dropped.
 */
import type { Socket } from 'node:net';
import { type Desk, errorReply, type Peer, replyTo } from './dispatch.ts';
import { formatMessage, type JsonObject } from './json.ts';
import { JsonStream, type Message } from './json-stream.ts';
import { farewellMs, heldEvents, requestLimits } from './limits.ts';
import { refusal } from './qmp-error.ts';

/** What a session needs of its server. */
export interface SessionHost extends Desk {
  readonly greeting: JsonObject;
  /** Runs `work` when the work of all clients that came before has ended. */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
}

/** Serves one socket. */
export class Session implements Peer {
  negotiated = false;
  readonly #socket: Socket;
  readonly #host: SessionHost;
  readonly #stream = new JsonStream(requestLimits);
  #isEnding = false;
  /** Resolves when the socket is gone. */
  readonly closed: Promise<void>;
  /** Resolves when the socket is gone and nothing is worked on for it any more. */
  readonly settled: Promise<void>;

  constructor(socket: Socket, host: SessionHost) {
    this.#socket = socket;
    this.#host = host;
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    this.#send({ QMP: host.greeting });
    this.settled = Promise.all([this.closed, this.#serve()]).then(() => undefined);
  }

  /** Tells of an event, if the client has got so far that it expects some. */
  tell(event: string): void {
    if (!this.negotiated || this.#isEnding) return;
    if (this.#socket.writableLength > heldEvents) this.#socket.destroy();
    else this.#socket.write(event);
  }

  /** Hangs up when the client has what was sent, or after a moment. */
  end(): void {
    this.#isEnding = true;
    if (this.#socket.destroyed) return;
    this.#socket.end();
    const timer = setTimeout(() => this.#socket.destroy(), farewellMs);
    this.#socket.once('close', () => clearTimeout(timer));
  }

  async #serve(): Promise<void> {
    try {
      // Who has sent its last command still gets its replies.
      for await (const chunk of this.#socket.iterator({ destroyOnReturn: false })) {
        for (const message of this.#stream.read(chunk as Buffer)) {
          if (this.#isEnding) return;
          await this.#answer(message);
        }
      }
    } catch {
      // The connection broke; there is nobody to tell.
    }
    this.end();
  }

  async #answer(message: Message): Promise<void> {
    const isSent =
      'error' in message
        ? this.#send(errorReply(refusal(message.error), this.#host))
        : await this.#host.inTurn(async () => this.#send(await replyTo(message.value, this, this.#host)));
    if ('last' in message) this.end();
    else if (!isSent) await this.#taken();
  }

  /** False: the client has not taken all that was sent. */
  #send(message: JsonObject): boolean {
    return !this.#socket.writable || this.#socket.write(`${formatMessage(message)}\r\n`);
  }

  /** Resolves when the client has taken all that was sent, or is gone. */
  #taken(): Promise<void> {
    const socket = this.#socket;
    return new Promise((resolve) => {
      const settle = (): void => {
        socket.off('drain', settle).off('close', settle);
        resolve();
      };
      if (socket.destroyed) resolve();
      else socket.on('drain', settle).on('close', settle);
    });
  }
}
