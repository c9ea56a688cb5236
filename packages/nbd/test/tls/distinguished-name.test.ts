import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { qemuNbd, requires, run, temporaryFolder, tlsFolder } from '@strata/testkit';
import { distinguishedName } from '../../src/tls/distinguished-name.ts';

// The subject as openssl is told it, and the name by which qemu-nbd must let it in.
const subjects: readonly (readonly [string, string])[] = [
  ['/C=DE/O=Strata/CN=alice', 'C=DE,O=Strata,CN=alice'],
  ['/O=Strata, Inc./CN=a b', 'O=Strata\\, Inc.,CN=a b'],
  ['/CN=x\\/y\\+z', 'CN=x/y\\+z'],
];

for (const [subject, name] of subjects) {
  test(`${subject} is ${name}, to qemu-nbd too`, requires('openssl', 'qemu-nbd', 'nbdinfo'), async () => {
    await using folder = await temporaryFolder();
    const dir = folder.file('pki');
    const authority = await tlsFolder(dir);
    await authority.issue('client', { subject });
    const certificate = new X509Certificate(await readFile(join(dir, 'client-cert.pem')));
    assert.equal(distinguishedName(certificate), name);
    await writeFile(folder.file('disk'), Buffer.alloc(65536));
    const tls = `tls-creds-x509,id=t,endpoint=server,verify-peer=on,dir=${dir}`;
    const allowed = `authz-simple,id=a,identity=${name.replaceAll(',', ',,')}`;
    const args = ['-f', 'raw', '--object', tls, '--object', allowed, '--tls-creds', 't', '--tls-authz', 'a'];
    await using _server = await qemuNbd(folder.file('disk'), folder.file('s'), args);
    const query = `socket=${folder.file('s')}&tls-certificates=${dir}&tls-hostname=localhost`;
    const { stdout, stderr } = await run('nbdinfo', ['--size', `nbds+unix:///?${query}`]);
    assert.equal(stdout, '65536\n', stderr);
  });
}
