import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isDiskError } from '@strata/block';
import {
  requires,
  run,
  type TemporaryFolder,
  type TestAuthority,
  temporaryFolder,
  testAuthority,
  tlsFolder,
} from '@strata/testkit';
import { openNbd } from '../../src/client/device.ts';
import type { ClientTls, ServerTls, X509Credentials } from '../../src/tls/credentials.ts';
import { readCertificateFolder, readKeyFolder } from '../../src/tls/folder.ts';
import { socketServer } from '../client/socket-server.ts';
import { ascii, hex, u32 } from '../server/raw-client.ts';
import { greeting, option, reply, request, type Serving, serving, simple } from '../server/serving.ts';
import { type TestDisk, testDisk } from '../server/test-disk.ts';
import { agreed, secured } from './secure-client.ts';

const base = ascii('base:allocation');
const tlsRequired = 0x8000_0005;

describe('TLS keeps others out', requires('openssl'), () => {
  let folder: TemporaryFolder;
  let dir: string;
  let authority: TestAuthority;
  let server: X509Credentials;
  let client: X509Credentials;
  before(async () => {
    folder = await temporaryFolder();
    dir = join(folder.path, 'pki');
    authority = await tlsFolder(dir);
    server = readCertificateFolder(dir, 'server');
    client = readCertificateFolder(dir, 'client');
  });
  after(() => folder[Symbol.asyncDispose]());

  const start = (
    tls: Partial<ServerTls> = {},
    disk: TestDisk = testDisk(),
    handshakeTimeoutMs = 10_000,
  ): Promise<Serving> =>
    serving({
      tls: { credentials: server, ...tls },
      exports: [{ name: '', device: disk.device }],
      handshakeTimeoutMs,
    });
  const open = async (serve: Serving, tls: ClientTls): Promise<void> => {
    await using disk = await openNbd(serve.uri(), { tls });
    await disk.source.read(Buffer.alloc(10), 0);
  };
  const isIn = (serve: Serving, tls: ClientTls = { credentials: client }) =>
    assert.doesNotReject(open(serve, tls));
  const isOut = (serve: Serving, tls: ClientTls = { credentials: client }) =>
    assert.rejects(open(serve, tls), (error) => isDiskError(error, 'denied', 'closed', 'invalid'));
  const trusting = (): { ca: string | undefined; servername: string } => ({
    ca: server.authorities,
    servername: 'localhost',
  });

  describe('server', () => {
    test('FORCEDTLS mode: nothing but STARTTLS and ABORT is answered in plain text', async () => {
      await using serve = await start();
      await using client = await serve.connect();
      await client.expect(greeting);
      client.send('00000003');
      const ask = `${u32(0)} 0000`;
      const query = u32(0) + u32(1) + u32(base.length / 2) + base;
      for (const [number, data] of [
        [3, ''],
        [6, ask],
        [7, ask],
        [8, ''],
        [9, query],
        [10, query],
        [11, ''],
        [99, '00'],
      ] as const) {
        client.send(option(number, data));
        const header = await client.receive(20);
        assert.deepEqual([header.readUInt32BE(8), header.readUInt32BE(12)], [number, tlsRequired]);
        await client.receive(header.readUInt32BE(16));
      }
      client.send(option(2, ''));
      await client.expect(reply(2, 1, ''));
      await client.expectEnd();
    });

    test('FORCEDTLS mode: EXPORT_NAME in plain text ends the session', async () => {
      await using serve = await start();
      await using client = await serve.connect();
      await client.expect(greeting);
      client.send(`00000003 ${option(1, '')}`);
      await client.expectEnd();
    });

    test('SELECTIVETLS mode: who does not ask for TLS is served in plain text, who does is not', async () => {
      await using serve = await start({ mode: 'allow' });
      await using plain = await serve.connected();
      plain.send(request(3, 0, 0));
      await plain.expect(simple());
      await isIn(serve);
    });

    test('NOTLS mode: STARTTLS is refused with ERR_POLICY and TLS_REQD is never sent', async () => {
      await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
      await using client = await serve.connect();
      await client.expect(greeting);
      client.send(`00000003 ${option(5, '')}`);
      await client.expect(reply(5, 0x8000_0002, ascii('TLS not configured')));
    });

    test('TLS support: a second STARTTLS is refused with ERR_INVALID, and all works behind it', async () => {
      await using serve = await start();
      await using client = await secured(await agreed(serve), trusting());
      client.send(option(5, ''));
      const header = await client.receive(20);
      assert.equal(header.readUInt32BE(12), 0x8000_0003);
      await client.receive(header.readUInt32BE(16));
      client.send(option(8, ''));
      await client.expect(reply(8, 1, ''));
    });

    test('CVE-2021-3716: what was agreed on in plain text is forgotten when TLS begins', async () => {
      await using serve = await start({ mode: 'allow' });
      await using plain = await serve.connect();
      await plain.expect(greeting);
      const query = u32(0) + u32(1) + u32(base.length / 2) + base;
      plain.send(`00000003 ${option(8, '')}`);
      await plain.expect(reply(8, 1, ''));
      plain.send(option(10, query));
      await plain.expect(`${reply(10, 4, u32(0) + base)}${reply(10, 1, '')}`);
      plain.send(option(5, ''));
      await plain.expect(reply(5, 1, ''));
      await using client = await secured(plain, trusting());
      client.send(option(1, ''));
      // Without structured replies DF is not offered, a read has a simple reply and there is no block status.
      assert.equal((await client.receive(10)).readUInt16BE(8) & 0x80, 0);
      client.send(request(0, 0, 4));
      await client.expect(`${simple()} 00000000`);
      client.send(request(7, 0, 4096));
      await client.expect(simple(22));
    });

    test('CVE-2021-3716: a byte behind STARTTLS ends the connection before anything is answered', async () => {
      await using serve = await start();
      for (const extra of ['00', option(8, ''), '16030100']) {
        await using client = await serve.connect();
        await client.expect(greeting);
        client.send(`00000003 ${option(5, '')} ${extra}`);
        await client.expectEnd();
      }
      await isIn(serve);
    });

    test('plain text after STARTTLS was granted ends the connection', async () => {
      await using serve = await start();
      await using client = await agreed(serve);
      client.send(option(7, `${u32(0)} 0000`));
      await client.socket.resume();
      if (!client.socket.destroyed) await once(client.socket, 'close');
      await isIn(serve);
    });

    test('CVE-2019-14850: clients who do not get through TLS touch no disk', async () => {
      const disk = testDisk();
      await using serve = await start({}, disk);
      const clients = await Promise.all(Array.from({ length: 90 }, () => agreed(serve)));
      for (const [index, { socket }] of clients.entries()) {
        if (index % 3 === 0) socket.destroy();
        else socket.write(hex('16030100'));
      }
      assert.deepEqual(disk.calls, []);
      for (const { socket } of clients) socket.destroy();
      await isIn(serve);
    });

    test('the deadline for handshakes includes TLS', async () => {
      await using serve = await start({}, testDisk(), 1500);
      await using silent = await agreed(serve);
      await using stalled = await agreed(serve);
      stalled.send('1603010200');
      await Promise.all([silent.expectEnd(), stalled.expectEnd()]);
    });

    test('a TLS session that is cut after any byte of its handshake leaves the server serving', async () => {
      await using serve = await start();
      for (let cut = 0; cut < 40; cut++) {
        await using client = await agreed(serve);
        client.send(hex(`1603010200010001fc0303${'5a'.repeat(60)}`).subarray(0, cut));
        if (cut % 2 === 0) client.socket.end();
        else client.socket.destroy();
      }
      await isIn(serve);
    });

    test('TLS versions: 1.2 and 1.3 are spoken, 1.1 is not', async () => {
      await using serve = await start();
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
        const how = { ...trusting(), minVersion: version, maxVersion: version };
        await using client = await secured(await agreed(serve), how);
        client.send(option(2, ''));
        await client.expect(reply(2, 1, ''));
      }
      const old = { ...trusting(), minVersion: 'TLSv1', maxVersion: 'TLSv1.1' } as const;
      const ciphers = { ciphers: 'DEFAULT@SECLEVEL=0' };
      await assert.rejects(secured(await agreed(serve), { ...old, ...ciphers }));
    });

    test('a client certificate is needed where it is required', async () => {
      await using serve = await start({ clientCertificates: 'required' });
      await isIn(serve);
      await isOut(serve, { credentials: { ...client, identity: undefined } });
      const stranger = await testAuthority(join(folder.path, 'stranger'));
      await stranger.issue('client', { subject: '/C=DE/O=Strata/CN=alice' });
      const forged = readCertificateFolder(stranger.folder, 'client');
      await isOut(serve, { credentials: { ...forged, authorities: client.authorities } });
      const expired = join(folder.path, 'expired');
      await authority.issue('client', { subject: '/CN=alice', days: -1 }, expired);
      await copyFile(join(dir, 'ca-cert.pem'), join(expired, 'ca-cert.pem'));
      await isOut(serve, { credentials: readCertificateFolder(expired, 'client') });
      await isIn(serve);
    });

    test('a client certificate that is optional is verified if it is sent', async () => {
      await using serve = await start({ clientCertificates: 'optional' });
      await isIn(serve);
      await isIn(serve, { credentials: { ...client, identity: undefined } });
      const stranger = await testAuthority(join(folder.path, 'stranger2'));
      await stranger.issue('client', { subject: '/CN=alice' });
      const forged = readCertificateFolder(stranger.folder, 'client');
      await isOut(serve, { credentials: { ...forged, authorities: client.authorities } });
    });

    test('clients are let in by the distinguished name of their certificate', async () => {
      const seen: (string | undefined)[] = [];
      const authorize = (name: string | undefined): boolean => {
        seen.push(name);
        return name === 'C=DE,O=Strata,CN=alice';
      };
      await using serve = await start({ clientCertificates: 'optional', authorize });
      await isIn(serve);
      await isOut(serve, { credentials: { ...client, identity: undefined } });
      const other = join(folder.path, 'other');
      await authority.issue('client', { subject: '/O=Strata,CN=alice/CN=bob\\, C=DE' }, other);
      await copyFile(join(dir, 'ca-cert.pem'), join(other, 'ca-cert.pem'));
      await isOut(serve, { credentials: readCertificateFolder(other, 'client') });
      assert.deepEqual(seen, ['C=DE,O=Strata,CN=alice', undefined, 'O=Strata\\,CN=alice,CN=bob\\, C=DE']);
    });

    test('a certificate that was revoked is refused', async () => {
      const revoking = join(folder.path, 'revoking');
      const own = await tlsFolder(revoking);
      const good = readCertificateFolder(revoking, 'client');
      await own.issue('client', { subject: '/CN=mallory' }, join(revoking, 'mallory'));
      await own.revoke(join(revoking, 'mallory', 'client-cert.pem'));
      const credentials = readCertificateFolder(revoking, 'server');
      assert.ok(credentials.revoked?.includes('X509 CRL'));
      await using serve = await start({ credentials, clientCertificates: 'required' });
      await isIn(serve, { credentials: good });
      await copyFile(join(revoking, 'ca-cert.pem'), join(revoking, 'mallory', 'ca-cert.pem'));
      await isOut(serve, { credentials: readCertificateFolder(join(revoking, 'mallory'), 'client') });
    });

    test('pre-shared keys: an unknown user and a wrong key are refused', async () => {
      const keys = readKeyFolder(dir);
      await using serve = await start({ credentials: keys });
      await isIn(serve, { credentials: keys, username: 'alice' });
      const wrong = new Map([...keys.keys].map(([name, key]) => [name, key.map((byte) => byte ^ 1)]));
      await isOut(serve, { credentials: { type: 'psk', keys: wrong }, username: 'alice' });
      const renamed = new Map([['eve', keys.keys.get('alice') as Uint8Array]]);
      await isOut(serve, { credentials: { type: 'psk', keys: renamed }, username: 'eve' });
      // A client with certificates has no key.
      await isOut(serve);
    });
  });

  describe('client', () => {
    test('CVE-2024-7383: a server whose certificate is not what it must be is refused', async () => {
      await using serve = await start();
      await isIn(serve);
      await isIn(serve, { credentials: client, hostname: 'localhost' });
      await isIn(serve, { credentials: client, hostname: '127.0.0.1' });
      await isOut(serve, { credentials: client, hostname: 'example.com' });
      await isOut(serve, { credentials: client, hostname: '127.0.0.2' });
      const stranger = await tlsFolder(join(folder.path, 'stranger3'));
      const theirs = readCertificateFolder(stranger.folder, 'client');
      await isOut(serve, { credentials: theirs });
      await isOut(serve, { credentials: { type: 'x509' } });
      const expired = join(folder.path, 'expired-server');
      await authority.issue(
        'server',
        { subject: '/CN=localhost', names: 'DNS:localhost', days: -1 },
        expired,
      );
      await copyFile(join(dir, 'ca-cert.pem'), join(expired, 'ca-cert.pem'));
      await using late = await start({ credentials: readCertificateFolder(expired, 'server') });
      await isOut(late);
      // The way out is loud and is the only one.
      await isIn(late, { credentials: client, verifyPeer: false });
    });

    test('a server certificate that was revoked is refused', async () => {
      const revoking = join(folder.path, 'revoking-server');
      const own = await tlsFolder(revoking);
      await using serve = await start({ credentials: readCertificateFolder(revoking, 'server') });
      await isIn(serve, { credentials: readCertificateFolder(revoking, 'client') });
      await own.revoke('server-cert.pem');
      await isOut(serve, { credentials: readCertificateFolder(revoking, 'client') });
    });

    test('a client with a pre-shared key never accepts a server that shows a certificate', async () => {
      const keys = readKeyFolder(dir);
      await using serve = await start();
      await isOut(serve, { credentials: keys, username: 'alice' });
      // Not even if the whole system trusts the authority.
      const { href } = new URL('../../src/index.js', import.meta.url);
      const script = [
        `import { openNbd, readKeyFolder } from ${JSON.stringify(href)};`,
        `const credentials = readKeyFolder(${JSON.stringify(dir)});`,
        `await openNbd(${JSON.stringify(serve.uri())}, { tls: { credentials, username: 'alice' } });`,
      ].join('\n');
      const env = { NODE_EXTRA_CA_CERTS: join(dir, 'ca-cert.pem') };
      const finished = await run(process.execPath, ['--input-type=module', '-e', script], { env });
      assert.notEqual(finished.status, 0);
      assert.match(finished.stderr, /TLS/);
    });

    const variants: readonly (readonly [string, string, string])[] = [
      ['an oldstyle server', `4e42444d41474943 00420281861253 ${'00'.repeat(140)}`, ''],
      ['a server without fixed newstyle', '4e42444d41474943 49484156454f5054 0000', ''],
      ['ERR_POLICY', greeting, reply(5, 0x8000_0002, '')],
      ['ERR_UNSUP', greeting, reply(5, 0x8000_0001, '')],
      ['ERR_TLS_REQD', greeting, reply(5, tlsRequired, '')],
      ['a reply of a wrong type', greeting, reply(5, 2, '')],
      ['ACK and then plain text', greeting, `${reply(5, 1, '')} ${reply(7, 1, '')}`],
    ];
    for (const [name, hello, answer] of variants) {
      test(`CVE-2019-14842: TLS that is required is not given up for ${name}`, async () => {
        const said: Buffer[] = [];
        await using fake = await socketServer((socket) => {
          socket.write(hex(hello));
          socket.once('data', () => socket.write(hex(answer)));
          socket.on('data', (chunk: Buffer) => said.push(chunk));
        });
        const opening = openNbd(`nbd+unix:///the-export?socket=${fake.path}`, {
          tls: { credentials: client },
        });
        await assert.rejects(opening, (error) =>
          isDiskError(error, 'denied', 'not-supported', 'protocol', 'closed'),
        );
        assert.ok(!Buffer.concat(said).includes('the-export'), 'no export was named');
      });
    }

    test('TLS that is allowed is gone without where the server has none', async () => {
      await using serve = await serving({ exports: [{ name: '', device: testDisk().device }] });
      await isIn(serve, { credentials: client, mode: 'allow' });
      await isOut(serve, { credentials: client });
    });

    test('credentials that cannot be used are told before anybody is connected to', async () => {
      const bad = { certificate: 'no certificate', key: 'no key' };
      const nowhere = `nbd+unix:///?socket=${folder.file('nobody')}`;
      for (const tls of [
        { credentials: { type: 'x509', identity: bad } },
        { credentials: readKeyFolder(dir), username: 'nobody' },
        { credentials: readKeyFolder(dir) },
      ] as const) {
        await assert.rejects(openNbd(nowhere, { tls }), (error) => isDiskError(error, 'invalid'));
      }
      const key = await readFile(join(dir, 'client-key.pem'), 'utf8');
      const identity = { certificate: server.identity?.certificate ?? '', key };
      await assert.rejects(start({ credentials: { ...server, identity } }), (error) =>
        isDiskError(error, 'invalid'),
      );
    });
  });
});
