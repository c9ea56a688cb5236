/**
 * Credentials for TLS, made for one test by the real `openssl`, in the files that QEMU, nbdkit and libnbd read.
 *
 * One folder serves both ends: an authority, a server called `localhost`, a client, and pre-shared keys.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runOk } from './run.ts';

/** What is in a certificate. */
export interface CertificateOptions {
  /** As openssl writes it: `/O=Strata/CN=name`. */
  readonly subject: string;
  /** The alternative names of a server, as openssl writes them: `DNS:localhost,IP:127.0.0.1`. */
  readonly names?: string;
  /** Days; what is negative has expired. */
  readonly days?: number;
}

/** An authority, and the folder with its own certificate. */
export interface TestAuthority {
  readonly folder: string;
  /** Writes `ROLE-cert.pem` and `ROLE-key.pem` into the folder, or another one. */
  issue(role: 'server' | 'client', options: CertificateOptions, into?: string): Promise<void>;
  /** Writes `ca-crl.pem`, which revokes the certificate `cert`. */
  revoke(cert: string): Promise<void>;
}

const openssl = (cwd: string, ...args: readonly string[]): Promise<string> => runOk('openssl', args, { cwd });

/** An authority in a new folder. */
export async function testAuthority(folder: string, name = 'Strata test authority'): Promise<TestAuthority> {
  await mkdir(folder, { recursive: true });
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const own = ['-subj', `/CN=${name}`, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-days', '2'];
  const uses = ['-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
  await openssl(folder, 'req', '-x509', ...curve, ...own, ...uses);
  const database = '[ca]\ndefault_ca=c\n[c]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=2\n';
  await writeFile(join(folder, 'ca.conf'), database);
  await writeFile(join(folder, 'index'), '');
  return {
    folder,
    issue: async (role, { subject, names, days = 2 }, into = folder) => {
      await mkdir(into, { recursive: true });
      const key = join(into, `${role}-key.pem`);
      await openssl(folder, 'req', ...curve, '-subj', subject, '-keyout', key, '-out', 'request.pem');
      const extensions = [
        `extendedKeyUsage=${role}Auth`,
        'keyUsage=digitalSignature',
        ...(names === undefined ? [] : [`subjectAltName=${names}`]),
      ];
      await writeFile(join(folder, 'extensions'), extensions.join('\n'));
      const signing = [
        '-CA',
        'ca-cert.pem',
        '-CAkey',
        'ca-key.pem',
        '-CAcreateserial',
        '-days',
        String(days),
      ];
      const out = ['-extfile', 'extensions', '-out', join(into, `${role}-cert.pem`)];
      await openssl(folder, 'x509', '-req', '-in', 'request.pem', ...signing, ...out);
    },
    revoke: async (cert) => {
      const config = ['-config', 'ca.conf', '-keyfile', 'ca-key.pem', '-cert', 'ca-cert.pem'];
      await openssl(folder, 'ca', ...config, '-revoke', cert);
      await openssl(folder, 'ca', ...config, '-gencrl', '-out', 'ca-crl.pem');
    },
  };
}

/** An authority whose folder has a server for this machine, a client, and keys for the users `alice` and `bob`. */
export async function tlsFolder(folder: string): Promise<TestAuthority> {
  const authority = await testAuthority(folder);
  await authority.issue('server', {
    subject: '/CN=localhost',
    names: 'DNS:localhost,IP:127.0.0.1,IP:::1',
  });
  await authority.issue('client', { subject: '/C=DE/O=Strata/CN=alice' });
  await writeKeys(join(folder, 'keys.psk'), 'alice', 'bob');
  return authority;
}

/** A file of random pre-shared keys. */
export async function writeKeys(path: string, ...users: readonly string[]): Promise<void> {
  const lines = users.map((user) => `${user}:${randomBytes(32).toString('hex')}\n`);
  await writeFile(path, lines.join(''), { mode: 0o600 });
}
