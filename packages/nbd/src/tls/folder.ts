/**
 * Credentials from a folder, under the file names that QEMU and libvirt use.
 *
 *     ca-cert.pem  ca-crl.pem  server-cert.pem  server-key.pem  client-cert.pem  client-key.pem  keys.psk
 *
 * Spec: QEMU System Emulation User's Guide, "TLS setup for network services"
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { DiskError, hostError } from '@strata/block';
import type { PskCredentials, X509Credentials } from './credentials.ts';
import { parseKeyFile } from './key-file.ts';

/** No file of credentials is longer. */
const longestFile = 1024 * 1024;

/**
 * Certificates of one end. The authorities are always needed, a server's own certificate too, a client's is taken if
 * it is there, and so is the list of those that were revoked.
 *
 * @throws {DiskError} not-found, denied, io for a file; limit for one that is too long
 */
export async function readCertificateFolder(
  folder: string,
  endpoint: 'server' | 'client',
): Promise<X509Credentials> {
  const authorities = await read(join(folder, 'ca-cert.pem'));
  const revoked = await readIfThere(join(folder, 'ca-crl.pem'));
  const certificatePath = join(folder, `${endpoint}-cert.pem`);
  const certificate =
    endpoint === 'server' ? await read(certificatePath) : await readIfThere(certificatePath);
  const identity = certificate && { certificate, key: await read(join(folder, `${endpoint}-key.pem`)) };
  return { type: 'x509', authorities, revoked, identity: identity || undefined };
}

/** Pre-shared keys out of `keys.psk` in a folder. @throws {DiskError} as `readKeyFile` */
export function readKeyFolder(folder: string): Promise<PskCredentials> {
  return readKeyFile(join(folder, 'keys.psk'));
}

/**
 * Pre-shared keys out of a file.
 * @throws {DiskError} not-found, denied (also if everybody may read the file), io, limit; invalid for what holds no keys
 */
export async function readKeyFile(path: string): Promise<PskCredentials> {
  return { type: 'psk', keys: parseKeyFile(await read(path, { isSecret: true }), path) };
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await read(path);
  } catch (error) {
    if (error instanceof DiskError && error.code === 'not-found') return undefined;
    throw error;
  }
}

async function read(path: string, { isSecret = false } = {}): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size, mode } = await file.stat();
    if (isSecret && (mode & 0o007) !== 0) {
      throw new DiskError('denied', `the keys in ${path} can be read by everybody (chmod 600 mends that)`, {
        path,
      });
    }
    if (size > longestFile) throw new DiskError('limit', `${path} is longer than 1 MiB`, { path });
    return await file.readFile('utf8');
  } catch (error) {
    if (error instanceof DiskError) throw error;
    const failure = hostError(error, { path });
    if (!(failure instanceof DiskError)) throw failure;
    const message = `Unable to access credentials ${path}: ${failure.message}`;
    throw new DiskError(failure.code, message, { path, cause: error });
  }
}
