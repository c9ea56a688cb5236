import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MemoryDevice } from '@strata/block';
import { listen } from '@strata/nbd';
import { requires, run, type TemporaryFolder, temporaryFolder, tlsFolder } from '@strata/testkit';
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
