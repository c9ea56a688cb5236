/**
 * TLS on sockets that a server accepted: handshake, verification, authorisation.
 *
 * Each connection has a `tls.Server` of its own that listens nowhere: only so can its events be told from those of
 * other connections by documented means.
 *
 * Spec: proto.md, "Server-side requirements"
 */
import type { Socket } from 'node:net';
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls';
import { DiskError } from '@strata/block';
import { contextOptions, type ServerTls } from './credentials.ts';
import { distinguishedName } from './distinguished-name.ts';

/** Lets clients in as it was told to. */
export class TlsAcceptor {
  /** Nothing is served in plain text. */
  readonly required: boolean;
  readonly #tls: ServerTls;
  readonly #options: TlsOptions;

  /** @throws {DiskError} invalid for credentials that no server can work with */
  constructor(tls: ServerTls) {
    const { credentials, mode = 'require', clientCertificates = 'none' } = tls;
    this.required = mode === 'require';
    this.#tls = tls;
    if (credentials.type === 'x509') {
      if (credentials.identity === undefined) {
        throw new DiskError('invalid', 'a TLS server needs a certificate of its own');
      }
      if (clientCertificates !== 'none' && credentials.authorities === undefined) {
        throw new DiskError('invalid', 'whose certificates clients may have was not said');
      }
    } else if (clientCertificates !== 'none') {
      throw new DiskError('invalid', 'clients with pre-shared keys have no certificates');
    }
    this.#options = {
      ...contextOptions(credentials),
      requestCert: clientCertificates !== 'none',
      rejectUnauthorized: clientCertificates === 'required',
      // The server's own deadline for handshakes covers this one.
      handshakeTimeout: 2 ** 31 - 1,
    };
  }

  /**
   * Takes over a socket. Either `secured` is called, once, in the turn in which the last check has been passed, or
   * the socket is destroyed.
   */
  accept(socket: Socket, secured: (secure: TLSSocket) => void): void {
    const { credentials, authorize } = this.#tls;
    let username: string | undefined;
    const server = createServer({
      ...this.#options,
      ...(credentials.type === 'psk' && {
        pskCallback: (_socket: TLSSocket, identity: string) => {
          username = identity;
          return (credentials.keys.get(identity) as Buffer | undefined) ?? null;
        },
      }),
    });
    server.on('tlsClientError', () => socket.destroy());
    server.on('secureConnection', (secure) => {
      secure.on('error', () => secure.destroy());
      const name = credentials.type === 'psk' ? username : nameOf(secure);
      const isLetIn = name !== false && (authorize === undefined || authorize(name));
      if (isLetIn) secured(secure);
      else secure.destroy();
    });
    server.emit('connection', socket);
  }
}

/** Undefined: no certificate was sent. False: one that is not valid. */
function nameOf(secure: TLSSocket): string | undefined | false {
  const certificate = secure.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  return secure.authorized && distinguishedName(certificate);
}
