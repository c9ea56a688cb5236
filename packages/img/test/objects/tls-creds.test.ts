import assert from 'node:assert/strict';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isDiskError, MemoryDevice } from '@strata/block';
import { listen } from '@strata/nbd';
import { requires, run, runOk, type TemporaryFolder, temporaryFolder, tlsFolder } from '@strata/testkit';
import { makeObjects } from '../../src/objects/objects.ts';
import { clientTls, serverTls } from '../../src/objects/tls-creds.ts';
import { CommandError } from '../../src/report.ts';

const program = fileURLToPath(new URL('../../src/bin.js', import.meta.url));
const runImg = (words: readonly string[]) => run(process.execPath, [program, ...words]);

describe('TLS credentials', requires('openssl', 'qemu-img'), () => {
  let folder: TemporaryFolder;
  let dir: string;
  before(async () => {
    folder = await temporaryFolder();
    dir = join(folder.path, 'pki');
    await tlsFolder(dir);
    await rm(join(dir, 'ca-key.pem'));
  });
  after(() => folder[Symbol.asyncDispose]());

  test('say what qemu-img says when they cannot be read', async () => {
    for (const definition of [
      'tls-creds-x509,id=t',
      'tls-creds-x509,id=t,dir=/nowhere',
      'tls-creds-psk,id=t,dir=/nowhere',
      `tls-creds-psk,id=t,dir=${dir}`,
      `tls-creds-psk,id=t,dir=${dir},username=eve`,
      `tls-creds-x509,id=t,dir=${dir},endpoint=both`,
      `tls-creds-x509,id=t,dir=${dir},bogus=1`,
    ]) {
      const { stderr } = await run('qemu-img', ['info', '--object', definition, '/nowhere']);
      await assert.rejects(makeObjects([definition]), (error) => {
        assert.ok(error instanceof CommandError);
        assert.equal(`qemu-img: ${error.message}`, stderr.split('\n')[0]);
        return true;
      });
    }
  });

  test('are refused where they are those of the other end, or none', async () => {
    const objects = await makeObjects([
      `tls-creds-x509,id=s,endpoint=server,dir=${dir}`,
      `tls-creds-x509,id=c,dir=${dir}`,
      'authz-simple,id=a,identity=x',
    ]);
    const sentence = (work: () => unknown, words: string): void =>
      assert.throws(work, (error) => (error as Error).message === words);
    sentence(() => serverTls(objects, 'c', undefined), 'Expected TLS credentials for a server endpoint');
    sentence(() => clientTls(objects, 's', undefined), 'Expected TLS credentials for a client endpoint');
    sentence(() => clientTls(objects, 'a', undefined), "Object with id 'a' is not TLS credentials");
    sentence(() => clientTls(objects, 'x', undefined), "No TLS credentials with id 'x'");
  });

  test('make a server ask for certificates unless it is told not to verify', async () => {
    const objects = await makeObjects([
      `tls-creds-x509,id=a,endpoint=server,dir=${dir}`,
      `tls-creds-x509,id=b,endpoint=server,dir=${dir},verify-peer=off`,
      `tls-creds-psk,id=c,endpoint=server,dir=${dir}`,
    ]);
    const asked = ['a', 'b', 'c'].map((id) => serverTls(objects, id, undefined).clientCertificates);
    assert.deepEqual(asked, ['required', 'none', 'none']);
  });

  test('take an enciphered key with the secret that opens it, and no other', async () => {
    const sealed = folder.file('sealed');
    await cp(dir, sealed, { recursive: true });
    const key = join(sealed, 'server-key.pem');
    await runOk('openssl', [
      'pkey',
      '-aes256',
      '-passout',
      'pass:open sesame',
      '-in',
      join(dir, 'server-key.pem'),
      '-out',
      key,
    ]);
    const definition = `tls-creds-x509,id=t,endpoint=server,dir=${sealed}`;
    const objects = await makeObjects(['secret,id=s,data=open sesame', `${definition},passwordid=s`]);
    await using server = await listen({
      exports: [{ name: '', device: new MemoryDevice(1024 * 1024) }],
      address: { path: folder.file('sealed.sock') },
      tls: serverTls(objects, 't', undefined),
    });
    const { path } = server.address as { path: string };
    const uri = `nbds+unix:///?socket=${path}&tls-certificates=${dir}`;
    assert.equal((await runImg(['info', '-f', 'raw', uri])).status, 0);
    const wrong = await makeObjects(['secret,id=s,data=close sesame', `${definition},passwordid=s`]);
    for (const { objects: made, id } of [
      { objects: wrong, id: 't' },
      { objects: await makeObjects([definition]), id: 't' },
    ]) {
      const listening = listen({
        exports: [{ name: '', device: new MemoryDevice(512) }],
        address: { path: folder.file('never.sock') },
        tls: serverTls(made, id, undefined),
      });
      await assert.rejects(listening, (error) => isDiskError(error, 'invalid'));
    }
    await assert.rejects(makeObjects([`${definition},passwordid=nope`]), /No secret with id 'nope'/);
  });

  test('keep to the priority that they are given', async () => {
    for (const [priority, status] of [
      ['NORMAL', 0],
      ['NORMAL:-VERS-TLS1.3', 0],
      ['NORMAL:-VERS-TLS1.2', 1],
      ['SECURE128', 0],
    ] as const) {
      const objects = await makeObjects([
        `tls-creds-x509,id=t,endpoint=server,dir=${dir},verify-peer=off,priority=${priority}`,
      ]);
      const path = folder.file(`priority-${priority.replaceAll(':', '')}`);
      await using _server = await listen({
        exports: [{ name: '', device: new MemoryDevice(1024 * 1024) }],
        address: { path },
        tls: serverTls(objects, 't', undefined),
      });
      // A client of QEMU that speaks TLS 1.2 alone.
      const client = `tls-creds-x509,id=t,dir=${dir},priority=NORMAL:-VERS-ALL:+VERS-TLS1.2`;
      const options = `driver=raw,file.driver=nbd,file.path=${path},file.tls-creds=t,file.tls-hostname=localhost`;
      const words = ['info', '--object', client, '--image-opts', options];
      assert.equal((await run('qemu-img', words)).status, status, priority);
      const ours = await runImg(words);
      assert.equal(ours.status, status, `${priority}: ${ours.stderr}`);
    }
    // The keys of the test have 128 bits of security.
    const strict = await makeObjects([`tls-creds-x509,id=t,endpoint=server,dir=${dir},priority=SECURE192`]);
    await assert.rejects(
      listen({
        exports: [{ name: '', device: new MemoryDevice(512) }],
        address: { path: folder.file('never.sock') },
        tls: serverTls(strict, 't', undefined),
      }),
      (error) => isDiskError(error, 'invalid') && /too small/.test(error.message),
    );
    await assert.rejects(
      makeObjects([`tls-creds-x509,id=t,dir=${dir},priority=NORMAL:%COMPAT`]),
      /'%COMPAT' in the TLS priority 'NORMAL:%COMPAT' is not supported/,
    );
  });

  test('let every verb read an export behind TLS: by --object, and by an nbds URI', async () => {
    const objects = await makeObjects([
      `tls-creds-x509,id=x,endpoint=server,dir=${dir}`,
      `tls-creds-psk,id=p,endpoint=server,dir=${dir}`,
    ]);
    const device = new MemoryDevice(1024 * 1024);
    for (const [id, definition, query] of [
      ['x', `tls-creds-x509,id=t,dir=${dir}`, `tls-certificates=${dir}`],
      ['p', `tls-creds-psk,id=t,dir=${dir},username=bob`, `tls-psk-file=${dir}/keys.psk&tls-username=bob`],
    ] as const) {
      const path = folder.file(`s${id}`);
      await using _server = await listen({
        exports: [{ name: '', device }],
        address: { path },
        tls: serverTls(objects, id, undefined),
      });
      const options = `driver=raw,file.driver=nbd,file.path=${path},file.tls-creds=t,file.tls-hostname=localhost`;
      const described = ['--object', definition, '--image-opts', options];
      const named = ['-f', 'raw', `nbds+unix:///?socket=${path}&${query}`];
      for (const how of [described, named]) {
        const { status, stdout, stderr } = await runImg(['info', '--output=json', ...how]);
        assert.equal(status, 0, stderr);
        assert.equal(JSON.parse(stdout)['virtual-size'], 1024 * 1024);
      }
      const plain = await runImg(['info', '-f', 'raw', `nbd+unix:///?socket=${path}`]);
      assert.match(plain.stderr, /TLS negotiation required/);
      assert.equal(plain.status, 1);
    }
  });
});
