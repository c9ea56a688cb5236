import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { nbdkit, requires, temporaryFolder, tlsFolder } from '@strata/testkit';
import { openNbd } from '../../src/client/device.ts';
import { readCertificateFolder, readKeyFolder } from '../../src/tls/folder.ts';
import { hex } from '../server/raw-client.ts';
import { option, request, serving } from '../server/serving.ts';
import { testDisk } from '../server/test-disk.ts';
import { agreed, secured } from './secure-client.ts';

const session = hex(
  [
    option(11, ''),
    option(5, ''),
    option(8, ''),
    option(6, '00000000 0000'),
    option(3, ''),
    option(99, ''),
  ].join(''),
);
const transmission = hex(
  [
    option(8, ''),
    option(7, '00000000 0000'),
    request(0, 0, 100),
    `${request(1, 0, 4)} 61626364`,
    request(3, 0, 0),
  ].join(''),
);

test(
  'a session inside TLS that is cut after any byte leaves the server serving',
  requires('openssl'),
  async () => {
    await using folder = await temporaryFolder();
    const dir = join(folder.path, 'pki');
    await tlsFolder(dir);
    const credentials = readKeyFolder(dir);
    const tls = { credentials, username: 'alice' };
    const psk = credentials.keys.get('alice') as Uint8Array;
    await using serve = await serving({
      tls: { credentials },
      exports: [{ name: '', device: testDisk().device }],
      maxConnections: 1000,
    });
    for (const whole of [session, transmission]) {
      for (let cut = 0; cut <= whole.length; cut += 3) {
        await using client = await secured(await agreed(serve), {
          ciphers: 'TLS_AES_128_GCM_SHA256:PSK',
          ca: [],
          checkServerIdentity: () => undefined,
          pskCallback: () => ({ identity: 'alice', psk }),
        });
        client.send(whole.subarray(0, cut));
        // Some say goodbye to TLS, some to the socket alone, some to nobody.
        if (cut % 2 === 0) client.socket.end();
        else client.socket.destroy();
      }
    }
    while (serve.server.connections > 0) await new Promise(setImmediate);
    await using disk = await openNbd(serve.uri(), { tls });
    await disk.device?.write(Buffer.from('abc'), 5);
    const back = Buffer.alloc(3);
    await disk.source.read(back, 5);
    assert.equal(back.toString(), 'abc');
  },
);

test("nbdkit's filters behind TLS: errors, delays, one request at a time, blocks", {
  ...requires('openssl', 'nbdkit'),
}, async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, 'pki');
  await tlsFolder(dir);
  const tls = { credentials: readCertificateFolder(dir, 'client') };
  const filters: readonly (readonly string[])[] = [
    ['--filter=noparallel', 'memory', '4M', 'serialize=requests'],
    ['--filter=delay', 'memory', '4M', 'rdelay=1ms', 'wdelay=1ms'],
    ['--filter=blocksize-policy', 'memory', '4M', 'blocksize-minimum=512', 'blocksize-error-policy=error'],
  ];
  for (const [index, args] of filters.entries()) {
    const socket = folder.file(`s${index}`);
    await using _server = await nbdkit(socket, ['--tls=require', `--tls-certificates=${dir}`, ...args]);
    await using disk = await openNbd(`nbd+unix:///?socket=${socket}`, { tls, connections: 4 });
    const bytes = Buffer.alloc(300_000, 'noise.');
    await disk.device?.write(bytes, 12_345);
    const back = Buffer.alloc(bytes.length);
    await disk.source.read(back, 12_345);
    assert.ok(back.equals(bytes), args.join(' '));
  }
  const socket = folder.file('error');
  const failing = ['--filter=error', 'memory', '4M', 'error-pread=ENOSPC', 'error-pread-rate=100%'];
  await using _server = await nbdkit(socket, ['--tls=require', `--tls-certificates=${dir}`, ...failing]);
  await using disk = await openNbd(`nbd+unix:///?socket=${socket}`, { tls });
  await assert.rejects(disk.source.read(Buffer.alloc(10), 100), { code: 'no-space' });
  await disk.device?.write(Buffer.alloc(10), 0);
});

test('a server that stops tells clients inside TLS so, and ends', requires('openssl'), async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, 'pki');
  await tlsFolder(dir);
  const credentials = readCertificateFolder(dir, 'server');
  await using serve = await serving({
    tls: { credentials },
    exports: [{ name: '', device: testDisk().device }],
  });
  const how = { ca: credentials.authorities, servername: 'localhost' };
  await using waiting = await secured(await agreed(serve), how);
  await using half = await agreed(serve);
  const closed = serve.server.close({ graceMs: 500 });
  await Promise.all([closed, once(waiting.socket, 'close'), half.expectEnd()]);
  assert.equal(serve.server.connections, 0);
});
