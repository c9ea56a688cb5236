/**
 * The bytes between us and a server, over a unix socket or TCP.
 *
 * Received bytes are put where the receiver wants them: `ByteSink.target` says where, before each read. So a
 * handshake reads exactly its message, and the payload of a large read goes from the kernel into the caller's
 * buffer. The next target is asked for as soon as `received` returns, which is why whatever takes over must take
 * over inside `received` and not after an `await`.
 *
 * TLS goes on top of the socket when the negotiation comes to it; from then on targets are filled with what was
 * decrypted.
 */
import { connect as connectSocket, type Socket } from 'node:net';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { DiskError, hostError } from '@strata/block';
import type { ClientTls } from '../tls/credentials.ts';
import { connectionOptions, initiate } from '../tls/initiate.ts';
import { receiveInPlace } from '../wire/in-place.ts';
import { SerialWriter } from '../wire/serial-writer.ts';
import { describeAddress, type NbdAddress } from './uri.ts';

/** Who gets the bytes that a server sends. Nothing here may throw. */
export interface ByteSink {
  /** Where the next bytes go; at least one byte long, and left alone until `received`. */
  target(): Uint8Array;
  /** The first `count` bytes of the last target were filled. */
  received(count: number): void;
  /** Nothing more comes. Called once, unless the sink was replaced. */
  ended(reason: DiskError): void;
}

/** A connection to a server, for bytes. */
export interface Transport {
  /** Gets what is received from now on. */
  sink: ByteSink;
  /**
   * Sends `chunks` one after the other, in one system call where the socket has room. They are not copied and
   * must stay unchanged until `sent` is called, which it is not if the connection ends before.
   */
  send(chunks: readonly Uint8Array[], sent?: () => void): void;
  /**
   * Encrypts all that follows; nothing may be sent before `secured` is called. A failure ends the connection.
   * To be called in the turn in which the server agreed.
   */
  secure(secured: () => void): void;
  /** Sends what is still to be sent and says that nothing follows; resolves when the connection is gone. */
  end(): Promise<void>;
  /** Ends the connection at once; the sink is told `reason`, unless it was told another one before. */
  destroy(reason: DiskError): void;
}

/** A server that does not close its end after ours gets this long, in milliseconds. */
const lingerMs = 5000;

/** Linux has 108 bytes for the path of a unix socket, its end marked by a NUL; Node would cut a longer one. */
const longestPath = 107;

/**
 * Begins to connect. A failure is told to `sink` like any later end.
 *
 * @param tls what `secure` is to do
 * @throws {DiskError} invalid for the path of a unix socket that is too long, and for credentials that cannot be used
 */
export function connect(address: NbdAddress, sink: ByteSink, tls?: ClientTls): Transport {
  if ('path' in address && Buffer.byteLength(address.path) > longestPath) {
    throw new DiskError(
      'invalid',
      `UNIX socket path is too long: it must be less than ${longestPath + 1} bytes`,
    );
  }
  return new SocketTransport(address, sink, tls);
}

class SocketTransport implements Transport {
  sink: ByteSink;
  readonly #tls: { readonly wish: ClientTls; readonly options: ConnectionOptions } | undefined;
  #socket: Socket;
  #secureWriter: SerialWriter | undefined;
  readonly #closed: Promise<void>;
  #connected = false;
  #over = false;

  constructor(address: NbdAddress, sink: ByteSink, tls: ClientTls | undefined) {
    this.sink = sink;
    const host = 'host' in address ? address.host : 'localhost';
    this.#tls = tls && { wish: tls, options: connectionOptions(tls, host) };
    const onread = {
      buffer: () => this.sink.target(),
      callback: (count: number) => {
        this.sink.received(count);
        return true;
      },
    };
    this.#socket = connectSocket({ ...address, noDelay: true, keepAlive: true, onread });
    this.#socket.on('connect', () => {
      this.#connected = true;
    });
    this.#socket.on('error', (error) => this.#ended(this.#failure(address, error)));
    this.#socket.on('end', () => this.#ended(new DiskError('closed', 'the server closed the connection')));
    const socket = this.#socket;
    this.#closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#ended(new DiskError('closed', 'the connection was closed'));
        resolve();
      });
    });
  }

  send(chunks: readonly Uint8Array[], sent?: () => void): void {
    if (this.#over) return;
    if (this.#secureWriter !== undefined) {
      sendSecure(this.#secureWriter, chunks, () => this.#over || sent?.());
      return;
    }
    const [only] = chunks;
    const done = sent && ((error?: Error | null) => error ?? sent());
    if (only !== undefined && chunks.length === 1) {
      this.#socket.write(only, done);
      return;
    }
    this.#socket.cork();
    const last = chunks.length - 1;
    chunks.forEach((chunk, index) => {
      this.#socket.write(chunk, index === last ? done : undefined);
    });
    this.#socket.uncork();
  }

  secure(secured: () => void): void {
    if (this.#tls === undefined) throw new TypeError('no TLS credentials');
    const { wish, options } = this.#tls;
    initiate(this.#socket, wish, options, {
      secured: (secure) => {
        this.#socket = secure;
        this.#secureWriter = new SerialWriter(secure);
        secured();
        this.#receiveSecure(secure);
      },
      failed: (reason) => this.destroy(reason),
    });
  }

  async end(): Promise<void> {
    const timer = setTimeout(() => this.#socket.destroy(), lingerMs).unref();
    if (this.#secureWriter !== undefined) this.#secureWriter.end(() => undefined);
    else this.#socket.end();
    await this.#closed;
    clearTimeout(timer);
  }

  destroy(reason: DiskError): void {
    this.#ended(reason);
    this.#socket.destroy();
  }

  #receiveSecure(secure: TLSSocket): void {
    secure.on('end', () => this.#ended(new DiskError('closed', 'the server closed the connection')));
    const onRead = {
      buffer: () => this.sink.target(),
      callback: (count: number) => this.sink.received(count),
    };
    if (!receiveInPlace(secure, onRead)) secure.on('data', (chunk: Buffer) => copyChunk(chunk, this.sink));
    secure.resume();
  }

  #ended(reason: DiskError): void {
    if (this.#over) return;
    this.#over = true;
    this.sink.ended(reason);
  }

  #failure(address: NbdAddress, error: Error): DiskError {
    const failure = hostError(error, { op: this.#connected ? 'transfer' : 'connect' });
    const known =
      failure instanceof DiskError ? failure : new DiskError('io', error.message, { cause: error });
    if (this.#connected)
      return new DiskError('closed', `the connection broke: ${known.message}`, { cause: error });
    const message = `Failed to connect to '${describeAddress(address)}': ${known.message}`;
    return new DiskError(known.code, message, { ...known.context, cause: error });
  }
}

/** What is as short as a few requests goes in one record; payloads are encrypted where they lie. */
const oneRecord = 4096;

function sendSecure(writer: SerialWriter, chunks: readonly Uint8Array[], sent: () => void): void {
  const total = chunks.reduce((sum, { length }) => sum + length, 0);
  const pieces = total <= oneRecord ? [Buffer.concat(chunks)] : chunks;
  pieces.forEach((piece, index) => {
    writer.write(piece, index === pieces.length - 1 ? sent : undefined);
  });
}

function copyChunk(chunk: Buffer, sink: ByteSink): void {
  for (let at = 0; at < chunk.length; ) {
    const count = chunk.copy(sink.target(), 0, at);
    sink.received(count);
    at += count;
  }
}
