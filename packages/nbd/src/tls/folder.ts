/**
 * Credentials from a folder, under the file names that QEMU and libvirt use.
 *
 *     ca-cert.pem  ca-crl.pem  server-cert.pem  server-key.pem  client-cert.pem  client-key.pem  keys.psk
 *
 * Spec: QEMU System Emulation User's Guide, "TLS setup for network services"
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
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
 * @param passphrase of the key, if it is enciphered
 * @throws {DiskError} not-found, denied, io for a file; limit for one that is too long
 */
export function readCertificateFolder(
  folder: string,
  endpoint: 'server' | 'client',
  passphrase?: string,
): X509Credentials {
  const authorities = read(join(folder, 'ca-cert.pem'));
  const revoked = readIfThere(join(folder, 'ca-crl.pem'));
  const certificatePath = join(folder, `${endpoint}-cert.pem`);
  const certificate = endpoint === 'server' ? read(certificatePath) : readIfThere(certificatePath);
  const identity = certificate && { certificate, key: read(join(folder, `${endpoint}-key.pem`)), passphrase };
  return { type: 'x509', authorities, revoked, identity: identity || undefined };
}

/** Pre-shared keys out of `keys.psk` in a folder. @throws {DiskError} as `readKeyFile` */
export function readKeyFolder(folder: string): PskCredentials {
  return readKeyFile(join(folder, 'keys.psk'));
}

/**
 * Pre-shared keys out of a file.
 * @throws {DiskError} not-found, denied (also if everybody may read the file), io, limit; invalid for what holds no keys
 */
export function readKeyFile(path: string): PskCredentials {
  return { type: 'psk', keys: parseKeyFile(read(path, { isSecret: true }), path) };
}

function readIfThere(path: string): string | undefined {
  try {
    return read(path);
  } catch (error) {
    if (error instanceof DiskError && error.code === 'not-found') return undefined;
    throw error;
  }
}

function read(path: string, { isSecret = false } = {}): string {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    const { size, mode } = fstatSync(fd);
    if (isSecret && (mode & 0o007) !== 0) {
      throw new DiskError('denied', `the keys in ${path} can be read by everybody (chmod 600 mends that)`, {
        path,
      });
    }
    if (size > longestFile) throw new DiskError('limit', `${path} is longer than 1 MiB`, { path });
    return readFileSync(fd, 'utf8');
  } catch (error) {
    if (error instanceof DiskError) throw error;
    const failure = hostError(error, { path });
    if (!(failure instanceof DiskError)) throw failure;
    const message = `Unable to access credentials ${path}: ${failure.message}`;
    throw new DiskError(failure.code, message, { path, cause: error });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
