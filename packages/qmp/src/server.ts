/**
 * The server: a unix socket, the commands, and the clients that give them.
 *
 * Commands of all clients run one after the other. The server dies of no client and no command.
 *
 * Spec: QEMU, "QEMU Machine Protocol Specification"
 */
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { listenOnPath } from '@strata/block/listening';
import type { QmpCommand } from './command.ts';
import { commandTable } from './dispatch.ts';
import { formatMessage, type JsonObject } from './json.ts';
import { farewellMs, mostClients } from './limits.ts';
import { Session, type SessionHost } from './session.ts';

/** Who the server says that it is. */
export interface QmpVersion {
  /** Of the QEMU whose commands and sentences it has; programs look here for what they may ask. */
  readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
  /** Which program it is. */
  readonly package: string;
}

/** What a server is told. */
export interface QmpServerOptions {
  /** Of the unix socket, which is nobody else's from its first instant. */
  readonly path: string;
  readonly version: QmpVersion;
  /** Beside those that every server has. */
  readonly commands: readonly QmpCommand[];
  /** Hears of bugs, which clients see as a refusal. Not given: a process warning. */
  readonly onError?: (error: unknown) => void;
}

/** A server that listens. Disposing of it hangs up, after the replies that are under way. */
export interface QmpServer extends AsyncDisposable {
  /** Tells all clients that have negotiated. */
  emit(event: string, data?: JsonObject): void;
  /** Clients that are connected. */
  readonly clients: number;
}

/** Takes commands on a unix socket. @throws {DiskError} busy, exists, denied, not-found, limit, io for the path */
export async function listenQmp(options: QmpServerOptions): Promise<QmpServer> {
  const server = new RunningServer(options);
  await server.open(options.path);
  return server;
}

class RunningServer implements QmpServer, SessionHost {
  readonly commands: SessionHost['commands'];
  readonly greeting: JsonObject;
  readonly report: (error: unknown) => void;
  readonly #server: Server;
  readonly #sessions = new Set<Session>();
  #turn: Promise<unknown> = Promise.resolve();
  #removeSocket: () => Promise<void> = async () => undefined;
  #closing: Promise<void> | undefined;

  constructor({ commands, version, onError }: QmpServerOptions) {
    const told: JsonObject = { qemu: version.qemu, package: version.package };
    this.commands = commandTable(commands, told);
    this.greeting = { version: told, capabilities: [] };
    this.report = onError ?? ((error) => process.emitWarning(error instanceof Error ? error : String(error)));
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  async open(path: string): Promise<void> {
    this.#removeSocket = await listenOnPath(this.#server, path);
    this.#server.on('error', this.report);
  }

  get clients(): number {
    return this.#sessions.size;
  }

  emit(event: string, data?: JsonObject): void {
    const now = Date.now();
    const timestamp = { seconds: Math.floor(now / 1000), microseconds: (now % 1000) * 1000 };
    const line = `${formatMessage({ timestamp, event, data })}\r\n`;
    for (const session of this.#sessions) session.tell(line);
  }

  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#server.close();
    await this.#removeSocket();
    // A command that waits for what never comes does not keep the server from its end.
    await Promise.race([this.#turn, delay(farewellMs, undefined, { ref: false })]);
    const sessions = [...this.#sessions];
    for (const session of sessions) session.end();
    await Promise.all(sessions.map((session) => session.closed));
  }

  #accept(socket: Socket): void {
    if (this.#closing !== undefined || this.#sessions.size >= mostClients) {
      socket.destroy();
      return;
    }
    const session = new Session(socket, this);
    this.#sessions.add(session);
    void session.settled.then(() => this.#sessions.delete(session));
  }
}
