/**
 * One client: its socket, its buffers, and the phase it is in.
 *
 * The connection begins with a handshake that has to be over in time, and goes on as a session. It is
 * settled when the socket is gone and the disk has finished what the client had asked for.
 */
import type { Socket } from 'node:net';
import type { TlsAcceptor } from '../tls/accept.ts';
import type { Counters } from './counters.ts';
import type { Resources } from './execution.ts';
import type { ServedExport } from './export.ts';
import { type Agreed, Handshake, type HandshakeHost } from './handshake.ts';
import type { ClientReport, ServerObserver } from './observer.ts';
import { Receiver } from './receiver.ts';
import { Replies } from './replies.ts';
import { Session, type SessionHost } from './session.ts';
import { type SocketTransportOptions, socketTransport } from './socket-transport.ts';
import type { Transport, TransportListener } from './transport.ts';

/** What a connection needs of its server. */
export interface ConnectionHost extends SocketTransportOptions {
  readonly exports: ReadonlyMap<string, ServedExport>;
  readonly multiple: boolean;
  readonly stopping: boolean;
  readonly handshakeTimeoutMs: number;
  readonly resources: Resources;
  readonly observer: ServerObserver;
  readonly tls: TlsAcceptor | undefined;
  /** Nothing is under way on this connection any more, or at least less. */
  idle(): void;
}

/** Serves one accepted socket from the greeting on. */
export class Connection implements TransportListener, HandshakeHost, SessionHost, ClientReport {
  readonly id: number;
  readonly peer: string | undefined;
  readonly #host: ConnectionHost;
  readonly #receiver: Receiver;
  readonly #replies: Replies;
  readonly #transport: Transport;
  readonly #deadline: NodeJS.Timeout;
  #cutOff: ClientReport['cutOff'];
  #served: ServedExport | undefined;
  readonly #handshake: Handshake;
  #phase: Handshake | Session | undefined;
  #session: Session | undefined;
  #ending = false;
  #closed = false;
  #moved = true;
  #still = 0;
  readonly #settle: () => void;

  /** Resolves when nothing of this connection is left. */
  readonly settled: Promise<void>;

  constructor(socket: Socket, host: ConnectionHost, id: number) {
    this.#host = host;
    this.id = id;
    this.peer =
      socket.remoteAddress === undefined ? undefined : `${socket.remoteAddress}:${socket.remotePort}`;
    let settle: () => void = () => undefined;
    this.settled = new Promise((resolve) => {
      settle = resolve;
    });
    this.#settle = settle;
    this.#receiver = new Receiver(host.resources.pool);
    this.#transport = socketTransport(socket, this, host);
    this.#replies = new Replies(host.resources.pool, this.#transport, () => this.#sent());
    this.#deadline = setTimeout(() => this.cut('handshake timeout'), host.handshakeTimeoutMs);
    this.#handshake = new Handshake(this, this.#receiver);
    this.#phase = this.#handshake;
    host.observer.connected?.(this);
  }

  get exports(): ReadonlyMap<string, ServedExport> {
    return this.#host.exports;
  }

  get multiple(): boolean {
    return this.#host.multiple;
  }

  get stopping(): boolean {
    return this.#host.stopping;
  }

  get cutOff(): ClientReport['cutOff'] {
    return this.#cutOff;
  }

  get session(): { readonly exportName: string; readonly counters: Counters } | undefined {
    const { name: exportName } = this.#served ?? {};
    const counters = this.#session?.counters;
    return exportName === undefined || counters === undefined ? undefined : { exportName, counters };
  }

  get tls(): TlsAcceptor | undefined {
    return this.#host.tls;
  }

  /** True while requests are under way or replies are on their way. */
  get busy(): boolean {
    return !this.#closed && (this.#session?.busy ?? false);
  }

  /** Bytes held out of the budget of all connections. */
  get owed(): number {
    return this.#session?.owed ?? 0;
  }

  get held(): number {
    return this.#replies.held;
  }

  /** Bytes of replies that the client has not taken. */
  get untaken(): number {
    return this.#replies.held + this.#replies.directBytes;
  }

  /** How often in a row this was called without a byte having moved since the call before. */
  countStill(): number {
    this.#still = this.#moved ? 0 : this.#still + 1;
    this.#moved = false;
    return this.#still;
  }

  /** Requests and options that come from now on are refused. */
  stop(): void {
    this.#session?.stop();
  }

  space(): Buffer {
    return this.#receiver.space(this.#phase?.blocked ?? false);
  }

  received(length: number): void {
    this.#moved = true;
    this.#receiver.received(length);
    this.#phase?.pump();
    if (this.#phase?.blocked) this.#transport.pause();
  }

  ended(): void {
    this.#phase?.ended();
  }

  closed(): void {
    this.#closed = true;
    clearTimeout(this.#deadline);
    this.#phase?.closed();
    this.#replies.close();
    this.#receiver.dispose();
    this.idle();
  }

  report(error: unknown): void {
    this.#host.resources.report(error);
  }

  send(bytes: Buffer): void {
    this.#replies.send(bytes, bytes.length, () => undefined);
  }

  secure(): void {
    if (this.tls) this.#transport.secure(this.tls, () => this.#handshake.secured());
  }

  enter(agreed: Agreed): void {
    clearTimeout(this.#deadline);
    const { resources } = this.#host;
    this.#session = new Session(this, resources, agreed, this.#receiver, this.#replies);
    this.#phase = this.#session;
    this.#served = agreed.served;
    this.#host.observer.entered?.(this);
    this.#session.pump();
  }

  unblocked(): void {
    this.#receiver.settle();
    this.#transport.resume();
  }

  idle(): void {
    if (this.#closed && (this.#session?.running ?? 0) === 0) this.#settle();
    this.#host.idle();
  }

  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#transport.end();
  }

  /** Ends a client that costs too much. */
  cut(why: NonNullable<ClientReport['cutOff']>): void {
    this.#cutOff ??= why;
    this.destroy();
  }

  destroy(): void {
    this.#transport.destroy();
  }

  #sent(): void {
    this.#moved = true;
    this.#phase?.retry();
    if (this.#host.stopping) this.#host.idle();
  }
}
