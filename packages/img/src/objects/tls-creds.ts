/**
 * `tls-creds-x509` and `tls-creds-psk`: who this end of a TLS connection is, read from one of QEMU's folders.
 *
 * Folders are read when the object is made, so that what is missing is told before anything else happens; secrets that
 * they need must have been defined before.
 *
 * Spec: QEMU System Emulation User's Guide, "TLS setup for network services"
 */
import { DiskError, isDiskError } from '@strata/block';
import {
  type ClientTls,
  type PskCredentials,
  parsePriority,
  readCertificateFolder,
  readKeyFolder,
  type ServerTls,
  type X509Credentials,
} from '@strata/nbd';
import { CommandError } from '../report.ts';
import type { ObjectKind } from './kinds.ts';
import type { Objects, UserObject } from './objects.ts';
import { passphraseOf } from './secret.ts';

/** QEMU's word for a client that was given no name. */
const defaultUser = 'qemu';

const common = {
  dir: 'string',
  endpoint: ['client', 'server'],
  priority: 'string',
  'verify-peer': 'boolean',
} as const;

/** Certificates. */
export const tlsCredsX509: ObjectKind = {
  properties: { ...common, passwordid: 'string', 'sanity-check': 'boolean' },
  check: (object, others) => void judged(() => remember(object, others)),
};

/** Pre-shared keys. */
export const tlsCredsPsk: ObjectKind = {
  properties: { ...common, username: 'string' },
  check: (object, others) => {
    const { keys } = judged(() => remember(object, others)) as PskCredentials;
    const user = userOf(object);
    if (endpointOf(object) === 'server' || keys.has(user)) return;
    const file = `${object.properties.get('dir')}/keys.psk`;
    throw new CommandError(`Username ${user} not found in PSK file ${file}`);
  },
};

/**
 * How a server speaks TLS with the credentials called `id`.
 * @param authorize judges clients, if anything does
 * @throws {DiskError} invalid for what are no credentials of a server; and as the folder is read
 */
export function serverTls(objects: Objects, id: string, authorize: ServerTls['authorize']): ServerTls {
  const object = findCredentials(objects, id, 'server');
  const credentials = credentialsOf(object);
  const needsNone = credentials.type === 'psk' || object.properties.get('verify-peer') === false;
  // Who is to be judged by name may show one, even if others need not.
  const otherwise = credentials.type === 'x509' && authorize !== undefined ? 'optional' : 'none';
  return { credentials, clientCertificates: needsNone ? otherwise : 'required', authorize };
}

/** How a client speaks TLS with the credentials called `id`. @throws {DiskError} as `serverTls` */
export function clientTls(objects: Objects, id: string, hostname: string | undefined): ClientTls {
  const object = findCredentials(objects, id, 'client');
  const credentials = credentialsOf(object);
  if (credentials.type === 'psk') return { credentials, username: userOf(object) };
  return { credentials, hostname, verifyPeer: object.properties.get('verify-peer') !== false };
}

function findCredentials(objects: Objects, id: string, endpoint: 'client' | 'server'): UserObject {
  const object = objects.find(id);
  if (object === undefined) throw new DiskError('invalid', `No TLS credentials with id '${id}'`);
  if (!object.type.startsWith('tls-creds-')) {
    throw new DiskError('invalid', `Object with id '${id}' is not TLS credentials`);
  }
  if (endpointOf(object) === endpoint) return object;
  throw new DiskError('invalid', `Expected TLS credentials for a ${endpoint} endpoint`);
}

/** A client, unless it says otherwise. */
function endpointOf({ properties }: UserObject): 'client' | 'server' {
  return properties.get('endpoint') === 'server' ? 'server' : 'client';
}

function userOf({ properties }: UserObject): string {
  return String(properties.get('username') ?? defaultUser);
}

type Credentials = X509Credentials | PskCredentials;

/** What objects stand for. */
const known = new WeakMap<UserObject, Credentials>();

function credentialsOf(object: UserObject): Credentials {
  const found = known.get(object);
  if (found === undefined) throw new TypeError(`the credentials '${object.id}' were not read`);
  return found;
}

/** Reads the credentials of an object that is being made. */
function remember(object: UserObject, others: Objects): Credentials {
  const credentials = read(object, others);
  known.set(object, credentials);
  return credentials;
}

function read(object: UserObject, others: Objects): Credentials {
  const { properties, type } = object;
  const folder = properties.get('dir');
  if (typeof folder !== 'string') throw new DiskError('invalid', "Missing 'dir' property value");
  const secret = properties.get('passwordid');
  const passphrase =
    typeof secret === 'string' ? Buffer.from(passphraseOf(others, secret)).toString() : undefined;
  const credentials =
    type === 'tls-creds-psk'
      ? readKeyFolder(folder)
      : readCertificateFolder(folder, endpointOf(object), passphrase);
  const priority = properties.get('priority');
  return typeof priority === 'string' ? { ...credentials, policy: parsePriority(priority) } : credentials;
}

/** What is wrong with an object ends the command. */
function judged<T>(judge: () => T): T {
  try {
    return judge();
  } catch (error) {
    if (!isDiskError(error)) throw error;
    throw new CommandError(error.message, { cause: error });
  }
}
