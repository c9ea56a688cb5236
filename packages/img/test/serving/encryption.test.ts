import assert from 'node:assert/strict';
import { copyFile, mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { requires, run, runOk, type TemporaryFolder, temporaryFolder, tlsFolder } from '@strata/testkit';
import { serveImg } from '../run-img.ts';

const program = fileURLToPath(new URL('../../src/bin.js', import.meta.url));
const img = (...words: readonly string[]) => run(process.execPath, [program, ...words]);

describe('img serve with TLS', requires('openssl', 'nbdinfo', 'qemu-nbd'), () => {
  let folder: TemporaryFolder;
  let dir: string;
  let disk: string;
  before(async () => {
    folder = await temporaryFolder();
    dir = join(folder.path, 'pki');
    disk = folder.file('disk.raw');
    await tlsFolder(dir);
    await writeFile(disk, '');
    await truncate(disk, 1024 * 1024);
  });
  after(() => folder[Symbol.asyncDispose]());

  const x509 = (): readonly string[] => [
    '--object',
    `tls-creds-x509,id=t,endpoint=server,dir=${dir}`,
    '--tls-creds',
    't',
  ];
  const serving = (...words: readonly string[]) => serveImg('-f', 'raw', ...words, disk);

  test('serves nobody who speaks plain text, and everybody who has the certificate', async () => {
    const socket = folder.file('x509');
    await using server = await serving('-k', socket, ...x509());
    assert.deepEqual(server.uris, [`nbds+unix:///?socket=${socket}`]);
    const uri = `nbds+unix:///?socket=${socket}&tls-certificates=${dir}&tls-hostname=localhost`;
    assert.equal((await runOk('nbdinfo', ['--size', uri])).trim(), '1048576');
    const info = await img('info', '--output=json', '-f', 'raw', uri);
    assert.equal(JSON.parse(info.stdout)['virtual-size'], 1048576);
    const plain = await run('nbdinfo', ['--size', `nbd+unix:///?socket=${socket}`]);
    assert.notEqual(plain.status, 0);
  });

  test('serves on an address that others can reach, with pre-shared keys', async () => {
    const keys = ['--object', `tls-creds-psk,id=t,endpoint=server,dir=${dir}`, '--tls-creds', 't'];
    await using server = await serving('-b', '0.0.0.0', '-p', '0', ...keys);
    const [uri = ''] = server.uris;
    const port = /:(\d+)\//.exec(uri)?.[1];
    assert.match(uri, /^nbds:/);
    const named = `nbds://bob@127.0.0.1:${port}/?tls-psk-file=${dir}/keys.psk`;
    assert.equal((await runOk('nbdinfo', ['--size', named])).trim(), '1048576');
    const list = ['-L', '-b', '127.0.0.1', '-p', String(port)];
    const client = ['--object', `tls-creds-psk,id=t,dir=${dir},username=bob`, '--tls-creds', 't'];
    const ours = await img('serve', ...list, ...client);
    assert.equal(ours.status, 0, ours.stderr);
    assert.equal(ours.stdout, await runOk('qemu-nbd', [...list, ...client]));
  });

  test('lets in whom it is told to, by distinguished name', async () => {
    const socket = folder.file('authz');
    const uri = `nbds+unix:///?socket=${socket}&tls-certificates=${dir}&tls-hostname=localhost`;
    for (const [identity, status] of [
      ['C=DE,,O=Strata,,CN=alice', 0],
      ['C=DE,,O=Strata,,CN=bob', 1],
    ] as const) {
      const authz = ['--object', `authz-simple,id=a,identity=${identity}`, '--tls-authz', 'a'];
      await using _server = await serving('-k', socket, ...x509(), ...authz);
      assert.equal((await run('nbdinfo', ['--size', uri])).status, status);
    }
  });

  test('judges whoever shows a certificate that nobody needs, and lets in nobody without', async () => {
    const socket = folder.file('optional');
    const own = folder.file('no-identity');
    await mkdir(own);
    await copyFile(join(dir, 'ca-cert.pem'), join(own, 'ca-cert.pem'));
    const uri = (certificates: string): string =>
      `nbds+unix:///?socket=${socket}&tls-certificates=${certificates}&tls-hostname=localhost`;
    const creds = [
      '--object',
      `tls-creds-x509,id=t,endpoint=server,verify-peer=off,dir=${dir}`,
      '--tls-creds',
      't',
    ];
    {
      await using _server = await serving('-k', socket, ...creds);
      for (const certificates of [dir, own]) {
        assert.equal((await run('nbdinfo', ['--size', uri(certificates)])).status, 0);
      }
    }
    const list = 'authz-list,id=a,rules.0.match=*CN=alice,rules.0.policy=allow,rules.0.format=glob';
    await using _server = await serving('-k', socket, ...creds, '--object', list, '--tls-authz', 'a');
    assert.equal((await run('nbdinfo', ['--size', uri(dir)])).status, 0);
    assert.equal((await run('nbdinfo', ['--size', uri(own)])).status, 1);
  });

  test('says what qemu-nbd says of credentials that it cannot use', async () => {
    const client = ['--object', `tls-creds-x509,id=t,endpoint=client,dir=${dir}`];
    for (const words of [
      ['--tls-creds', 'nope', disk],
      [...client, '--tls-creds', 't', disk],
      ['--object', 'authz-simple,id=t,identity=x', '--tls-creds', 't', disk],
      ['--tls-authz', 'a', disk],
      ['--tls-hostname', 'a', disk],
      [...x509(), '--tls-hostname', 'a', disk],
      ['-L', ...client, '--tls-creds', 't', '--tls-authz', 'a'],
      ['-L', ...x509()],
    ]) {
      const where = ['-k', folder.file('never')];
      const theirs = await run('qemu-nbd', [...where, ...words]);
      const ours = await img('serve', ...where, ...words);
      assert.equal(ours.stderr.split('\n')[0], theirs.stderr.split('\n')[0]?.replace('qemu-nbd', 'img'));
      assert.equal(ours.status, 1);
    }
  });
});
