/**
 * Who one end of a TLS connection is, whom it trusts, and what it insists on; for servers and clients.
 *
 * What is wrong with a credential is found when it is made into the options of Node's TLS, before anybody connects.
 * AES with keys of 128 bits comes first among the ciphers: it is the fastest on every processor with instructions
 * for it, and both ends of an NBD connection are busy with little else.
 *
 * Spec: proto.md, "TLS support"; RFC 4279 and RFC 8446, 2.2 (pre-shared keys)
 */
import { constants } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { DiskError } from '@strata/block';
import type { TlsPolicy } from './priority.ts';

/** Certificates. All texts are PEM. */
export interface X509Credentials {
  readonly type: 'x509';
  /** Whose signatures count. Not given: those that Node trusts, which no server should take for clients. */
  readonly authorities?: string | undefined;
  /** What the authorities have revoked; needed for each of them if given. */
  readonly revoked?: string | undefined;
  /** One's own; a server needs it, a client only where servers ask. */
  readonly identity?: Identity | undefined;
  /** Not given: all that is safe. */
  readonly policy?: TlsPolicy | undefined;
}

/** A certificate and what proves that it is one's own. */
export interface Identity {
  readonly certificate: string;
  readonly key: string;
  /** Of a key that is enciphered. */
  readonly passphrase?: string | undefined;
}

/** Keys that both ends know. */
export interface PskCredentials {
  readonly type: 'psk';
  /** By user name. */
  readonly keys: ReadonlyMap<string, Uint8Array>;
  /** As with certificates. */
  readonly policy?: TlsPolicy | undefined;
}

/** How a server speaks TLS. */
export interface ServerTls {
  readonly credentials: X509Credentials | PskCredentials;
  /** `require` if not given: nothing is served in plain text. `allow` leaves it to the clients, and to who is between. */
  readonly mode?: 'require' | 'allow' | undefined;
  /** Certificates of clients: asked for and needed, asked for and verified if sent, or (if not given) not asked for. */
  readonly clientCertificates?: 'required' | 'optional' | 'none' | undefined;
  /**
   * Judges a client by the distinguished name of its certificate (see `distinguishedName`) or by its user name;
   * undefined for a client that showed neither. Not given: everybody who passes the handshake is let in.
   */
  readonly authorize?: ((name: string | undefined) => boolean) | undefined;
}

/** How a client speaks TLS. */
export interface ClientTls {
  readonly credentials: X509Credentials | PskCredentials;
  /** `require` if not given: nothing but STARTTLS is said in plain text. `allow` goes on without TLS where the server has none. */
  readonly mode?: 'require' | 'allow' | undefined;
  /** Whose certificate it must be; the host of the address if not given, `localhost` for unix sockets. */
  readonly hostname?: string | undefined;
  /** False: anybody may be the server. True if not given. */
  readonly verifyPeer?: boolean | undefined;
  /** Whose key it is; needed with pre-shared keys. */
  readonly username?: string | undefined;
}

const certificateCiphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
];

/** With a hash of 256 bits, as keys without one of their own have under TLS 1.3; under 1.2, those with forward secrecy. */
const keyCiphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-PSK-CHACHA20-POLY1305',
  'ECDHE-PSK-AES128-CBC-SHA256',
];

/**
 * What both ends tell Node's TLS. Nobody may start a second handshake on one connection.
 * @throws {DiskError} invalid for what is no certificate, no key, or not the key of the certificate
 */
export function contextOptions(credentials: X509Credentials | PskCredentials): SecureContextOptions {
  const options: SecureContextOptions = {
    minVersion: 'TLSv1.2',
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    ...(credentials.type === 'psk' ? keyOptions(credentials) : certificateOptions(credentials)),
  };
  try {
    createSecureContext(options);
  } catch (cause) {
    throw new DiskError('invalid', `TLS credentials cannot be used: ${(cause as Error).message}`, { cause });
  }
  return options;
}

/** By the names that priorities have for them. */
const recordCiphers: Readonly<Record<string, RegExp>> = {
  'AES-128-GCM': /AES_?128[-_]GCM/,
  'AES-256-GCM': /AES_?256[-_]GCM/,
  'CHACHA20-POLY1305': /CHACHA20/,
  'AES-128-CBC': /AES128-CBC/,
};

/** What may be agreed on, of what is offered. */
function agreeable(offered: readonly string[], policy: TlsPolicy | undefined): SecureContextOptions {
  if (policy === undefined) return { ciphers: offered.join(':') };
  const { minVersion, maxVersion, securityLevel } = policy;
  const allowed = offered.filter((name) =>
    Array.from(policy.ciphers).some((cipher) => recordCiphers[cipher]?.test(name)),
  );
  if (allowed.length === 0)
    throw new DiskError('invalid', 'the TLS priority allows no cipher that fits the credentials');
  const level = securityLevel === undefined ? [] : [`@SECLEVEL=${securityLevel}`];
  return { minVersion, maxVersion, ciphers: [...allowed, ...level].join(':') };
}

/** No authority is trusted, so a certificate is never taken for a key. */
function keyOptions({ policy }: PskCredentials): SecureContextOptions {
  return { ...agreeable(keyCiphers, policy), ca: [] };
}

function certificateOptions(credentials: X509Credentials): SecureContextOptions {
  const { authorities, revoked, identity, policy } = credentials;
  return {
    ...agreeable(certificateCiphers, policy),
    ...(authorities !== undefined && { ca: authorities }),
    ...(revoked !== undefined && { crl: revoked }),
    ...(identity !== undefined && { cert: identity.certificate, key: identity.key }),
    ...(identity?.passphrase !== undefined && { passphrase: identity.passphrase }),
  };
}
