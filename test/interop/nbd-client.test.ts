/** The list mode of nbd-client, the user's end of the kernel's client. It needs no kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { qemuImg, requires, runOk, storageDaemon, temporaryFolder, tlsFolder } from '@strata/testkit';
import { img } from '../img.ts';

const tools = requires('nbd-client', 'qemu-img', 'qemu-storage-daemon', 'openssl');

/** What nbd-client prints of a server, without its line of progress. */
const listedIn = (output: string): readonly string[] =>
  output.split('\n').filter((line) => line !== '' && !line.startsWith('Negotiation'));

test('nbd-client lists our exports, on a unix socket and over TCP, as those of QEMU', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = folder.file('disk.raw');
  await qemuImg.create(disk, '3M', { format: 'raw' });
  const names = ['first', 'b x', 'ü'];
  await using daemon = await storageDaemon(folder.path, {
    blockdevs: [{ driver: 'raw', 'node-name': 'disk', file: { driver: 'file', filename: disk } }],
    exports: names.map((name, index) => ({
      id: `e${index}`,
      name,
      'node-name': 'disk',
      description: 'some words',
    })),
  });
  const theirs = listedIn(await runOk('nbd-client', ['-l', '-unix', daemon.socket]));
  assert.deepEqual(theirs.toSorted(), names.map((name) => `${name}: some words`).toSorted());
  const served = ['-r', '-f', 'raw', '-D', 'some words', ...names.map((name) => `${name}=${disk}`)];
  const list = (script: string, ...where: readonly string[]) =>
    img.ok('serve', ...where, ...served, '--', 'sh', '-c', script);
  const overUnix = await list('nbd-client -l -unix "$unixsocket"');
  assert.deepEqual(listedIn(overUnix).toSorted(), theirs.toSorted());
  const overTcp = await list('nbd-client -l 127.0.0.1 "$port"', '-b', '127.0.0.1', '-p', '0');
  assert.deepEqual(listedIn(overTcp).toSorted(), theirs.toSorted());
});

test('nbd-client lists our exports over TLS with a certificate, and none without', tools, async () => {
  await using folder = await temporaryFolder();
  const disk = folder.file('disk.raw');
  const dir = folder.file('pki');
  await qemuImg.create(disk, '3M', { format: 'raw' });
  await tlsFolder(dir);
  const creds = `tls-creds-x509,id=t,endpoint=server,dir=${dir},verify-peer=on`;
  const list = (...words: readonly string[]) => {
    const where = ['-b', '127.0.0.1', '-p', '0', '--object', creds, '--tls-creds', 't'];
    const script = `nbd-client -l ${words.join(' ')} localhost "$port"`;
    return img.run('serve', ...where, '-r', '-f', 'raw', `disk=${disk}`, '--', 'sh', '-c', script);
  };
  const own = ['-certfile', `${dir}/client-cert.pem`, '-keyfile', `${dir}/client-key.pem`];
  const trusted = ['-cacertfile', `${dir}/ca-cert.pem`, '-tlshostname', 'localhost'];
  const known = await list('-enable-tls', ...trusted, ...own);
  assert.deepEqual([known.status, listedIn(known.stdout)], [0, ['disk']]);
  const plain = await list();
  assert.notEqual(plain.status, 0);
  assert.deepEqual(listedIn(plain.stdout), []);
  assert.match(plain.stderr, /Server said: .*TLS/);
});
