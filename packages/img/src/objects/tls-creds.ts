/**
 * `tls-creds-x509` and `tls-creds-psk`: who this end of a TLS connection is, read from one of QEMU's folders.
 *
 * Folders are read when the object is made, so that what is missing is told before anything else happens.
 *
 * Spec: QEMU System Emulation User's Guide, "TLS setup for network services"
 */
import { DiskError, isDiskError } from '@strata/block';
import {
  type ClientTls,
  type PskCredentials,
  readCertificateFolder,
  readKeyFolder,
  type ServerTls,
  type X509Credentials,
} from '@strata/nbd';
import { CommandError } from '../report.ts';
import type { ObjectKind } from './kinds.ts';
import type { Objects, UserObject } from './objects.ts';

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
  check: (object) => void judged(() => credentialsOf(object)),
};

/** Pre-shared keys. */
export const tlsCredsPsk: ObjectKind = {
  properties: { ...common, username: 'string' },
  check: (object) => {
    const { keys } = judged(() => credentialsOf(object)) as PskCredentials;
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
  const verifies = credentials.type === 'x509' && object.properties.get('verify-peer') !== false;
  return { credentials, clientCertificates: verifies ? 'required' : 'none', authorize };
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

function credentialsOf(object: UserObject): X509Credentials | PskCredentials {
  const { properties, type } = object;
  for (const name of ['priority', 'passwordid']) {
    if (properties.has(name)) {
      throw new DiskError('not-supported', `property '${name}' of ${type} is not supported`);
    }
  }
  const folder = properties.get('dir');
  if (typeof folder !== 'string') throw new DiskError('invalid', "Missing 'dir' property value");
  return type === 'tls-creds-psk' ? readKeyFolder(folder) : readCertificateFolder(folder, endpointOf(object));
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
