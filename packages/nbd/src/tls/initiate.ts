/**
 * TLS on a client's connected socket: handshake, and whether the server is who it must be.
 *
 * Node does not say by itself whether a pre-shared key was used: a server may show a certificate instead, and one
 * that the system trusts would do. So none is trusted then, and a server that shows any is refused.
 *
 * Spec: proto.md, "Client-side requirements"
 */
import type { Socket } from 'node:net';
import { isIP } from 'node:net';
import { type ConnectionOptions, checkServerIdentity, connect, type TLSSocket } from 'node:tls';
import { DiskError } from '@strata/block';
import { type ClientTls, contextOptions } from './credentials.ts';

/**
 * What `connect` will be told; made before anything is sent.
 * @param host the host of the address
 * @throws {DiskError} invalid for credentials that cannot be used
 */
export function connectionOptions(tls: ClientTls, host: string): ConnectionOptions {
  const { credentials, verifyPeer = true } = tls;
  const options: ConnectionOptions = { ...contextOptions(credentials) };
  if (credentials.type === 'x509') {
    const hostname = tls.hostname ?? host;
    return {
      ...options,
      ...(isIP(hostname) === 0 && { servername: hostname }),
      rejectUnauthorized: verifyPeer,
      checkServerIdentity: (_host, certificate) => checkServerIdentity(hostname, certificate),
    };
  }
  const { username } = tls;
  const key = username === undefined ? undefined : credentials.keys.get(username);
  if (username === undefined || key === undefined) {
    throw new DiskError('invalid', `no pre-shared key for the user '${username ?? ''}'`);
  }
  return {
    ...options,
    rejectUnauthorized: true,
    checkServerIdentity: () => undefined,
    pskCallback: () => ({ identity: username, psk: key }),
  };
}

/** Begins the handshake on a socket that it takes over. @param options made by `connectionOptions` of `tls` */
export function initiate(
  socket: Socket,
  tls: ClientTls,
  options: ConnectionOptions,
  told: { secured(secure: TLSSocket): void; failed(error: DiskError): void },
): void {
  const secure = connect({ ...options, socket });
  let isSecure = false;
  secure.on('error', (error) => told.failed(failureOf(error, isSecure)));
  secure.once('secureConnect', () => {
    if (tls.credentials.type === 'psk' && secure.getPeerX509Certificate() !== undefined) {
      told.failed(new DiskError('denied', 'TLS: the server shows a certificate and no pre-shared key'));
      return;
    }
    isSecure = true;
    told.secured(secure);
  });
}

/** A server that refuses the client says so with an alert, under TLS 1.3 only when the handshake is over. */
function failureOf(
  cause: NodeJS.ErrnoException & { readonly reason?: string },
  isSecure: boolean,
): DiskError {
  if (cause.code === 'ECONNRESET' || cause.code === 'EPIPE') {
    const text = isSecure ? 'the connection broke' : 'the server ended the TLS handshake';
    return new DiskError('closed', `${text}: ${cause.message}`, { cause });
  }
  const reason = cause.reason ?? cause.message;
  return new DiskError('denied', `TLS${isSecure ? '' : ' handshake failed'}: ${reason}`, { cause });
}
