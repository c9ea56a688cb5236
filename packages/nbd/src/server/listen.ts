/**
 * The server: an address, the exports, and the clients that are being served.
 *
 * It dies of no request and no client. Stopping it answers what has been asked for, refuses what comes
 * after that, and flushes every disk that could be written.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type BlockDevice, DiskError } from '@strata/block';
import { listenOn, listenOnPath } from '@strata/block/listening';
import { TlsAcceptor } from '../tls/accept.ts';
import type { ServerTls } from '../tls/credentials.ts';
import { Admission } from './admission.ts';
import { Budget } from './budget.ts';
import { BufferPool } from './buffer-pool.ts';
import { Connection, type ConnectionHost } from './connection.ts';
import { Counters } from './counters.ts';
import { type Export, type ServedExport, servedExport } from './export.ts';
import {
  connectionsPerAddress,
  defaultConnections,
  globalBudget,
  handshakeTimeoutMs,
  pooledBytes,
  stalledChecks,
  stalledMs,
  waitingConnections,
} from './limits.ts';
import type { ExportFigures, ServerObserver } from './observer.ts';
import { Wakefulness } from './wakefulness.ts';

/** In each turn of the loop every socket is read once; a full one takes more than one turn. */
const turnsToRead = 4;

/** Where a server listens: a unix socket, TCP, or a listening socket that was inherited. */
export type ListenAddress =
  | { readonly path: string }
  /** Port 0 is a free one; without a host it is this machine only. */
  | { readonly port: number; readonly host?: string }
  | { readonly fd: number };

/** Where a server really listens. */
export type ServerAddress =
  | { readonly path: string }
  | { readonly port: number; readonly host: string }
  | { readonly fd: number };

/** What a server is told. */
export interface ListenOptions {
  /** No two of one name. More may come and go later. */
  readonly exports: readonly Export[];
  readonly address: ListenAddress;
  /** Clients that are served at a time, 100 if not given; more wait. With 1, clients are not told that they may connect often. */
  readonly maxConnections?: number;
  /**
   * Of them, clients of one TCP address (IPv6: of one network of 64 bits); more wait. If not given it is 32, or
   * `maxConnections` where that is given.
   */
  readonly maxConnectionsPerAddress?: number;
  /** Not given: everything is plain text. */
  readonly tls?: ServerTls;
  /** How long a client may take to choose an export; 10 s if not given. */
  readonly handshakeTimeoutMs?: number;
  /** How long a client may hold memory, or keep a place by not taking its answers, that others wait for; 60 s if not given. */
  readonly stalledMs?: number;
  /** Whether the loop may stay awake for a moment after traffic (see wakefulness.ts); true if not given. */
  readonly spin?: boolean;
  /** Hears of errors that are no client's business: bugs, which clients see as EIO. Not given: a process warning. */
  readonly onError?: (error: unknown) => void;
  /** Hears of clients that come and go. */
  readonly observer?: ServerObserver;
}

/** A server that listens. Disposing of it closes it with the default grace. */
export interface NbdServer extends AsyncDisposable {
  readonly address: ServerAddress;
  /** Clients that are being served. */
  readonly connections: number;
  /** Clients that were served so far, those that are served now among them. */
  readonly clients: number;
  /** What was asked of each export so far. */
  figures(): readonly ExportFigures[];
  /** Clients that have chosen the export of this name. */
  clientsOf(exportName: string): number;
  /** Offers one more. @throws {RangeError} for a name that is taken, or one that the protocol cannot carry */
  addExport(offered: Export): void;
  /**
   * Withdraws one: nobody can choose it from now on. In mode `safe` that is refused while clients use it; in mode
   * `hard` they are cut off. Resolves when the disk is flushed and nothing of ours uses it any more.
   *
   * @throws {DiskError} not-found; busy in mode `safe`; and what the flush of the disk rejects with, the export being
   *   gone all the same
   */
  removeExport(exportName: string, options: { readonly mode: 'safe' | 'hard' }): Promise<void>;
  /**
   * Stops: no new clients; requests under way are answered, later ones refused; then connections end. Those
   * that have not ended after `graceMs` (5000 if not given) are cut. Resolves when all disks are flushed and
   * nothing uses them any more. Calling it again shortens the grace.
   * @throws what a disk's flush rejects with, after all else is done
   */
  close(options?: { readonly graceMs?: number }): Promise<void>;
}

/**
 * Serves disks over NBD. They stay the caller's, and must stay open until `close` has resolved.
 * @throws {DiskError} busy, exists, denied, not-found, limit, io for the address
 * @throws {DiskError} invalid for TLS credentials that cannot be used
 * @throws {RangeError} for two exports of one name
 */
export async function listen(options: ListenOptions): Promise<NbdServer> {
  const server = new RunningServer(options);
  await server.open(options.address);
  return server;
}

class RunningServer implements NbdServer, ConnectionHost {
  readonly exports: Map<string, ServedExport>;
  readonly multiple: boolean;
  readonly handshakeTimeoutMs: number;
  readonly resources: ConnectionHost['resources'];
  readonly tls: TlsAcceptor | undefined;
  readonly #stalledMs: number;
  readonly #server: Server;
  readonly observer: ServerObserver;
  readonly #served = new Set<Connection>();
  /** Of clients that have left, by export. */
  readonly #counted = new Map<string, Counters>();
  #clients = 0;
  readonly #admission: Admission;
  #address: ServerAddress | undefined;
  #removeSocket: () => Promise<void> = async () => undefined;
  #stallCheck: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;
  #drained: () => void = () => undefined;

  constructor(options: ListenOptions) {
    this.exports = new Map(options.exports.map((offered) => [offered.name, servedExport(offered)]));
    if (this.exports.size !== options.exports.length) throw new RangeError('two exports have one name');
    const all = options.maxConnections ?? defaultConnections;
    const perAddress = options.maxConnectionsPerAddress ?? options.maxConnections ?? connectionsPerAddress;
    this.#admission = new Admission(
      { all, perAddress, waiting: waitingConnections, waitingPerAddress: connectionsPerAddress },
      (socket, leave) => this.#serve(socket, leave),
    );
    this.#stalledMs = options.stalledMs ?? stalledMs;
    this.tls = options.tls && new TlsAcceptor(options.tls);
    this.multiple = all !== 1 && perAddress !== 1;
    this.observer = options.observer ?? {};
    this.handshakeTimeoutMs = options.handshakeTimeoutMs ?? handshakeTimeoutMs;
    this.resources = {
      pool: new BufferPool(pooledBytes),
      budget: new Budget(globalBudget),
      wakefulness: options.spin === false ? undefined : new Wakefulness(),
      report:
        options.onError ?? ((error) => process.emitWarning(error instanceof Error ? error : String(error))),
    };
    this.#server = createServer({
      allowHalfOpen: true,
      keepAlive: true,
      noDelay: true,
      pauseOnConnect: true,
    });
    this.#server.on('connection', (socket) => {
      socket.on('error', () => undefined);
      this.#admission.arrived(socket);
    });
  }

  async open(address: ListenAddress): Promise<void> {
    if ('path' in address && process.platform !== 'win32') {
      this.#removeSocket = await listenOnPath(this.#server, address.path);
      this.#address = { path: address.path };
    } else {
      await listenOn(this.#server, 'port' in address ? { host: 'localhost', ...address } : address);
      const bound = this.#server.address();
      if (bound === null || bound === '') this.#address = address as ServerAddress;
      else if (typeof bound === 'string') this.#address = { path: bound };
      else this.#address = { host: bound.address, port: bound.port };
    }
    this.#server.on('error', this.resources.report);
    this.#stallCheck = setInterval(() => this.#cutStalled(), this.#stalledMs / stalledChecks).unref();
  }

  get address(): ServerAddress {
    if (this.#address === undefined) throw new TypeError('the server does not listen yet');
    return this.#address;
  }

  get connections(): number {
    return this.#served.size;
  }

  get clients(): number {
    return this.#clients;
  }

  get stopping(): boolean {
    return this.#closing !== undefined;
  }

  figures(): readonly ExportFigures[] {
    return Array.from(this.exports.keys(), (exportName) => {
      const counters = new Counters();
      counters.add(this.#counted.get(exportName) ?? counters);
      for (const { session } of this.#served) {
        if (session?.exportName === exportName) counters.add(session.counters);
      }
      return { exportName, counters };
    });
  }

  clientsOf(exportName: string): number {
    return this.#using(exportName).length;
  }

  addExport(offered: Export): void {
    if (this.exports.has(offered.name)) throw new RangeError('two exports have one name');
    this.exports.set(offered.name, servedExport(offered));
  }

  async removeExport(exportName: string, { mode }: { readonly mode: 'safe' | 'hard' }): Promise<void> {
    const served = this.exports.get(exportName);
    if (served === undefined) throw new DiskError('not-found', `Export '${exportName}' is not found`);
    const users = this.#using(exportName);
    if (mode === 'safe' && users.length > 0) {
      throw new DiskError('busy', `export '${exportName}' still in use`);
    }
    this.exports.delete(exportName);
    for (const connection of users) connection.destroy();
    await Promise.all(users.map((connection) => connection.settled));
    await served.device?.flush();
  }

  /** Connections that have chosen an export. */
  #using(exportName: string): readonly Connection[] {
    return [...this.#served].filter(({ session }) => session?.exportName === exportName);
  }

  /** A connection has less to do. */
  idle(): void {
    if (this.stopping && ![...this.#served].some((connection) => connection.busy)) this.#drained();
  }

  close(options: { readonly graceMs?: number } = {}): Promise<void> {
    const timer = setTimeout(() => {
      this.#drained();
      for (const connection of this.#served) connection.destroy();
    }, options.graceMs ?? 5000);
    this.#closing ??= this.#close();
    return this.#closing.finally(() => clearTimeout(timer));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const drained = new Promise<void>((resolve) => {
      this.#drained = resolve;
    });
    this.#server.close();
    clearInterval(this.#stallCheck);
    this.#admission.close();
    for (const connection of this.#served) connection.stop();
    await this.#removeSocket();
    // What lies in the sockets by now has been received as well: it is read, and answered.
    for (let turn = 0; turn < turnsToRead; turn++) await nextTurn();
    this.idle();
    await drained;
    const left = [...this.#served];
    for (const connection of left) connection.end();
    await Promise.all(left.map((connection) => connection.settled));
    await this.#flush();
  }

  /** Each disk once, however many names it has; the first failure is told when all have been tried. */
  async #flush(): Promise<void> {
    const devices = new Set<BlockDevice>();
    for (const { device } of this.exports.values()) if (device) devices.add(device);
    const results = await Promise.allSettled(Array.from(devices, (device) => device.flush()));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  #serve(socket: Socket, leave: () => void): void {
    const connection = new Connection(socket, this, ++this.#clients);
    this.#served.add(connection);
    void connection.settled.then(() => {
      this.#served.delete(connection);
      this.#keepFigures(connection);
      this.observer.left?.(connection);
      leave();
    });
  }

  #keepFigures({ session }: Connection): void {
    if (session === undefined) return;
    const known = this.#counted.get(session.exportName);
    if (known) known.add(session.counters);
    else this.#counted.set(session.exportName, session.counters);
  }

  /** Cuts off who holds memory or a place that others wait for, and moves nothing. */
  #cutStalled(): void {
    const { wanted } = this.resources.budget;
    const crowded = this.#admission.isCrowded;
    for (const connection of this.#served) {
      const isStill = connection.countStill() >= stalledChecks;
      const isCostly = (wanted && connection.owed > 0) || (crowded && connection.untaken > 0);
      if (isStill && isCostly) connection.cut('stalled');
    }
  }
}
