import assert from 'node:assert/strict';
import { chmod, copyFile, mkdir, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ErrorCode, isDiskError } from '@strata/block';
import { requires, temporaryFolder, tlsFolder } from '@strata/testkit';
import { readCertificateFolder, readKeyFolder } from '../../src/tls/folder.ts';

test("QEMU's files are read, those of a client and the revocations only if they are there", {
  ...requires('openssl'),
}, async () => {
  await using folder = await temporaryFolder();
  const dir = folder.file('pki');
  const authority = await tlsFolder(dir);
  const fails = (reading: () => unknown, code: ErrorCode, words: RegExp): void =>
    assert.throws(reading, (error) => isDiskError(error, code) && words.test(error.message));

  const server = readCertificateFolder(dir, 'server');
  assert.match(server.authorities ?? '', /^-----BEGIN CERTIFICATE/);
  assert.match(server.identity?.key ?? '', /PRIVATE KEY/);
  assert.equal(server.revoked, undefined);
  await authority.revoke('client-cert.pem');
  assert.match(readCertificateFolder(dir, 'server').revoked ?? '', /X509 CRL/);
  assert.deepEqual([...readKeyFolder(dir).keys.keys()], ['alice', 'bob']);

  const client = folder.file('client');
  await mkdir(client);
  fails(
    () => readCertificateFolder(client, 'client'),
    'not-found',
    /Unable to access credentials .*ca-cert.pem/,
  );
  await copyFile(join(dir, 'ca-cert.pem'), join(client, 'ca-cert.pem'));
  assert.equal(readCertificateFolder(client, 'client').identity, undefined);
  fails(() => readCertificateFolder(client, 'server'), 'not-found', /server-cert.pem/);
  await copyFile(join(dir, 'client-cert.pem'), join(client, 'client-cert.pem'));
  fails(() => readCertificateFolder(client, 'client'), 'not-found', /client-key.pem/);

  await truncate(join(dir, 'ca-cert.pem'), 1024 * 1024 + 1);
  fails(() => readCertificateFolder(dir, 'server'), 'limit', /longer than 1 MiB/);
  await chmod(join(dir, 'keys.psk'), 0o644);
  fails(() => readKeyFolder(dir), 'denied', /can be read by everybody/);
  await rm(join(dir, 'keys.psk'));
  fails(() => readKeyFolder(dir), 'not-found', /keys.psk/);
});
