/**
 * How bytes come and go: all that a connection needs of a socket, plain or TLS.
 *
 * Bytes are put where the listener wants them, so that a payload is received in one piece and parsed where
 * it lies.
 */
import type { TlsAcceptor } from '../tls/accept.ts';

/** A stream of bytes in both directions. */
export interface Transport {
  /**
   * Sends `bytes`, which must stay unchanged until `sent` is called: once, and also if the connection is
   * lost. After the end it does nothing but call `sent`.
   */
  write(bytes: Buffer, sent: () => void): void;
  /**
   * Of the socket, for system calls that send plain bytes at once; to be asked for before each. Undefined: there is none, or
   * no more.
   */
  readonly descriptor: number | undefined;
  /** True if the host has taken all that was written. */
  readonly isDrained: boolean;
  /**
   * From here on all is encrypted: what was written before still goes out plain, and nothing that was received
   * plain may be left. `secured` is called when the handshake is over, if it succeeds, and the connection is gone
   * otherwise; until then nothing may be written. Receiving is paused when `secured` is called.
   */
  secure(acceptor: TlsAcceptor, secured: () => void): void;
  /** Receives nothing more until `resume`. */
  pause(): void;
  resume(): void;
  /** Sends what has been written, then closes. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** What a transport tells. */
export interface TransportListener {
  /** Where the next bytes are to be put; at least one byte. Asked for once before each `received`. */
  space(): Buffer;
  /** So many bytes are now at the start of the last `space`. */
  received(length: number): void;
  /** The peer will send no more. */
  ended(): void;
  /** The connection is gone. Called once, and last but for `sent` of writes under way. */
  closed(): void;
}
