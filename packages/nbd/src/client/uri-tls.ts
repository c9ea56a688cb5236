/**
 * What an NBD URI says of TLS: its parameters, under libnbd's names, and where the credentials are read from.
 *
 * Spec: The NBD Uniform Resource Indicator (URI) format, "NBD URI query parameters related to TLS"; nbd_connect_uri(3)
 */
import { userInfo } from 'node:os';
import { DiskError } from '@strata/block';
import { printable } from '../protocol/text.ts';
import type { ClientTls } from '../tls/credentials.ts';
import { readCertificateFolder, readKeyFile } from '../tls/folder.ts';

/** How a URI wants a connection encrypted. Texts are untrusted, and no file has been looked at. */
export interface TlsWish {
  /** The folder with the certificates; undefined: the authorities that the system trusts, and none of one's own. */
  readonly certificates?: string | undefined;
  /** The file with pre-shared keys, instead of certificates. */
  readonly keyFile?: string | undefined;
  /** Whose key of the file it is; undefined: that of the user of this process. */
  readonly username?: string | undefined;
  /** Whose certificate it must be; undefined: that of the host. */
  readonly hostname?: string | undefined;
  /** False: anybody may be the server. */
  readonly verifyPeer?: boolean | undefined;
}

const names = [
  'tls-type',
  'tls-certificates',
  'tls-psk-file',
  'tls-username',
  'tls-hostname',
  'tls-verify-peer',
];

/** True for the name of a parameter that is about TLS. */
export function isTlsParameter(name: string): boolean {
  return names.includes(name);
}

/** @throws {DiskError} invalid if there are parameters about TLS; they would be no protection */
export function noTls(parameters: ReadonlyMap<string, string>): undefined {
  for (const name of parameters.keys()) {
    if (isTlsParameter(name)) throw invalid(`parameter '${name}' needs the scheme nbds or nbds+unix`);
  }
}

/**
 * The wish of a URI whose scheme asks for TLS.
 * @param user of its authority
 * @throws {DiskError} invalid; not-supported for anonymous TLS
 */
export function tlsWish(parameters: ReadonlyMap<string, string>, user: string | undefined): TlsWish {
  const certificates = parameters.get('tls-certificates');
  const keyFile = parameters.get('tls-psk-file');
  const type = parameters.get('tls-type');
  if (type === 'anon')
    throw new DiskError('not-supported', 'anonymous TLS protects from nobody: tls-type=anon');
  if (type !== undefined && type !== 'x509' && type !== 'psk') {
    throw invalid(`tls-type=${printable(type)} is none of x509 and psk`);
  }
  if (certificates !== undefined && keyFile !== undefined) {
    throw invalid('tls-certificates and tls-psk-file exclude each other');
  }
  if (type === 'psk' && keyFile === undefined) throw invalid('tls-type=psk needs tls-psk-file');
  if (type === 'x509' && keyFile !== undefined) throw invalid('tls-type=x509 goes without tls-psk-file');
  return {
    certificates,
    keyFile,
    username: parameters.get('tls-username') ?? user,
    hostname: parameters.get('tls-hostname'),
    verifyPeer: parseSwitch(parameters.get('tls-verify-peer')),
  };
}

/** The parameters that `tlsWish` reads, encoded. */
export function formatTlsWish(wish: TlsWish): readonly string[] {
  const path = (text: string): string => encodeURIComponent(text).replaceAll('%2F', '/');
  const { certificates, keyFile, username, hostname, verifyPeer } = wish;
  return [
    ...(certificates === undefined ? [] : [`tls-certificates=${path(certificates)}`]),
    ...(keyFile === undefined ? [] : [`tls-psk-file=${path(keyFile)}`]),
    ...(username === undefined ? [] : [`tls-username=${encodeURIComponent(username)}`]),
    ...(hostname === undefined ? [] : [`tls-hostname=${encodeURIComponent(hostname)}`]),
    ...(verifyPeer === undefined ? [] : [`tls-verify-peer=${verifyPeer ? 1 : 0}`]),
  ];
}

/** Reads the credentials that a URI names. TLS is required then. @throws {DiskError} as the readers of folders and files */
export function loadTls(wish: TlsWish): ClientTls {
  const { certificates, keyFile, hostname, verifyPeer } = wish;
  if (keyFile !== undefined) {
    const username = wish.username ?? userInfo().username;
    return { credentials: readKeyFile(keyFile), username };
  }
  const credentials =
    certificates === undefined ? ({ type: 'x509' } as const) : readCertificateFolder(certificates, 'client');
  return { credentials, hostname, verifyPeer };
}

function parseSwitch(text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined;
  if (text === '1' || text === 'true') return true;
  if (text === '0' || text === 'false') return false;
  throw invalid('tls-verify-peer is 0 or 1');
}

function invalid(reason: string): DiskError {
  return new DiskError('invalid', `not an NBD URI: ${reason}`);
}
