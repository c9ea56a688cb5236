/**
 * GnuTLS's priority strings, as QEMU's users write them, as far as they say something that OpenSSL can be told as well:
 * versions, ciphers of the records, and the strength of everything together.
 *
 *     NORMAL    NORMAL:-VERS-TLS1.2    SECURE192    NORMAL:-CIPHER-ALL:+AES-256-GCM
 *
 * Nothing is made weaker than it is without. What would have no effect here, such as to remove what is never
 * offered, is taken; what cannot be done as it is written is refused and not passed over.
 *
 * Spec: GnuTLS, "Priority strings"; OpenSSL, SSL_CTX_set_security_level(3)
 */
import { DiskError } from '@strata/block';

type Version = 'TLSv1.2' | 'TLSv1.3';
type Cipher = (typeof ciphers)[number];

/** What may be agreed on. */
export interface TlsPolicy {
  readonly minVersion: Version;
  readonly maxVersion: Version;
  /** Of the records, under GnuTLS's names. */
  readonly ciphers: ReadonlySet<string>;
  /** OpenSSL's: of keys, signatures and ciphers alike. Undefined: what OpenSSL has by itself. */
  readonly securityLevel: number | undefined;
}

const ciphers = ['AES-128-GCM', 'AES-256-GCM', 'CHACHA20-POLY1305', 'AES-128-CBC'] as const;
const versions: readonly Version[] = ['TLSv1.2', 'TLSv1.3'];

/** Levels of OpenSSL are named by the bits of security that they ask for: 3 is 128, 4 is 192, 5 is 256. */
const beginnings: ReadonlyMap<string, number | undefined> = new Map([
  ['NORMAL', undefined],
  ['PERFORMANCE', undefined],
  ['SECURE128', 3],
  ['SECURE192', 4],
  ['SECURE256', 5],
]);

/** May be removed, because nobody is offered them. */
const neverOffered: ReadonlySet<string> = new Set([
  'VERS-SSL3.0',
  'VERS-TLS1.0',
  'VERS-TLS1.1',
  'VERS-DTLS-ALL',
  'VERS-DTLS1.0',
  'VERS-DTLS1.2',
  'ARCFOUR-128',
  '3DES-CBC',
  'NULL',
  'RSA',
  'RSA-PSK',
  'DHE-DSS',
  'ANON-DH',
  'ANON-ECDH',
  'MD5',
]);

/** @throws {DiskError} not-supported for what is not in the part that is understood; invalid for what allows nothing */
export function parsePriority(text: string): TlsPolicy {
  const [beginning = '', ...items] = text.split(':');
  if (!beginnings.has(beginning)) throw unknown(text, beginning);
  const allowed = { versions: new Set<Version>(versions), ciphers: new Set<Cipher>(ciphers) };
  for (const item of items) {
    const [sign = '', name] = [item.slice(0, 1), item.slice(1)];
    const isAdded = sign === '+';
    if (!isAdded && sign !== '-' && sign !== '!') throw unknown(text, item);
    if (!isAdded && neverOffered.has(name)) continue;
    if (
      !apply(allowed.versions, versionsCalled(name), isAdded) &&
      !apply(allowed.ciphers, ciphersCalled(name), isAdded)
    ) {
      throw unknown(text, item);
    }
  }
  const [minVersion] = versions.filter((version) => allowed.versions.has(version));
  if (minVersion === undefined || allowed.ciphers.size === 0) {
    throw new DiskError('invalid', `the TLS priority '${text}' allows no connection at all`);
  }
  const maxVersion = allowed.versions.has('TLSv1.3') ? 'TLSv1.3' : 'TLSv1.2';
  return { minVersion, maxVersion, ciphers: allowed.ciphers, securityLevel: beginnings.get(beginning) };
}

function versionsCalled(name: string): readonly Version[] {
  if (name === 'VERS-ALL' || name === 'VERS-TLS-ALL') return versions;
  return versions.filter((version) => `VERS-${version.replace('v', '')}` === name);
}

function ciphersCalled(name: string): readonly Cipher[] {
  return name === 'CIPHER-ALL' ? ciphers : ciphers.filter((cipher) => cipher === name);
}

/** False: there is nothing of that name. */
function apply<T>(allowed: Set<T>, called: readonly T[], isAdded: boolean): boolean {
  for (const each of called) {
    if (isAdded) allowed.add(each);
    else allowed.delete(each);
  }
  return called.length > 0;
}

function unknown(text: string, item: string): DiskError {
  return new DiskError(
    'not-supported',
    `'${item}' in the TLS priority '${text}' is not supported: NORMAL, PERFORMANCE or SECURE128, 192 or 256, then ciphers and versions to add (+) or to remove (-)`,
  );
}
