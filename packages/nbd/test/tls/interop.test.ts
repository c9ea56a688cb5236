import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  nbdkit,
  qemuNbd,
  requires,
  run,
  runOk,
  type Server,
  type TemporaryFolder,
  temporaryFolder,
  tlsFolder,
} from '@strata/testkit';
import { openNbd } from '../../src/client/device.ts';
import type { ServerTls } from '../../src/tls/credentials.ts';
import { readCertificateFolder, readKeyFolder } from '../../src/tls/folder.ts';
import { type Serving, serving } from '../server/serving.ts';
import { testDisk } from '../server/test-disk.ts';

const size = 8 * 1024 * 1024;
/** Python's modules for libnbd belong to the system's Python. */
const env = { PATH: '/usr/bin:/bin' };

describe('TLS with the tools of the field', requires('openssl', 'nbdinfo', 'nbdcopy', 'qemu-img'), () => {
  let folder: TemporaryFolder;
  let dir: string;
  let keys: string;
  before(async () => {
    folder = await temporaryFolder();
    dir = join(folder.path, 'pki');
    keys = join(dir, 'keys.psk');
    await tlsFolder(dir);
  });
  after(() => folder[Symbol.asyncDispose]());

  const methods = {
    'a server certificate': {
      server: async (): Promise<ServerTls> => ({ credentials: readCertificateFolder(dir, 'server') }),
      query: () => `tls-certificates=${dir}&tls-hostname=localhost`,
      qemu: () => `tls-creds-x509,id=tls0,endpoint=client,dir=${dir}`,
      qemuServer: () => `tls-creds-x509,id=tls0,endpoint=server,verify-peer=off,dir=${dir}`,
      nbdkit: () => [`--tls-certificates=${dir}`],
    },
    'certificates of both': {
      server: async (): Promise<ServerTls> => ({
        credentials: readCertificateFolder(dir, 'server'),
        clientCertificates: 'required',
      }),
      query: () => `tls-certificates=${dir}&tls-hostname=localhost`,
      qemu: () => `tls-creds-x509,id=tls0,endpoint=client,dir=${dir}`,
      qemuServer: () => `tls-creds-x509,id=tls0,endpoint=server,verify-peer=on,dir=${dir}`,
      nbdkit: () => [`--tls-certificates=${dir}`, '--tls-verify-peer'],
    },
    'pre-shared keys': {
      server: async (): Promise<ServerTls> => ({ credentials: readKeyFolder(dir) }),
      query: () => `tls-psk-file=${keys}&tls-username=alice`,
      qemu: () => `tls-creds-psk,id=tls0,endpoint=client,username=alice,dir=${dir}`,
      qemuServer: () => `tls-creds-psk,id=tls0,endpoint=server,dir=${dir}`,
      nbdkit: () => [`--tls-psk=${keys}`],
    },
  };

  const serve = (tls: ServerTls): Promise<Serving> => {
    const disk = testDisk({ size });
    return serving({ tls, exports: [{ name: '', device: disk.device }] });
  };
  const uri = (socket: string, query: string): string =>
    `nbds+unix://${query.includes('psk') ? 'alice@' : ''}/?socket=${socket}&${libnbdQuery(query)}`;
  /** libnbd takes the user from the authority of the URI. */
  const libnbdQuery = (query: string): string => query.replace(/&tls-username=\w+/, '');
  const ours = (socket: string, query: string): string => `nbds+unix:///?socket=${socket}&${query}`;

  for (const [name, method] of Object.entries(methods)) {
    test(`nbdinfo, nbdcopy and nbdsh talk to our server with ${name}`, requires('nbdsh'), async () => {
      await using server = await serve(await method.server());
      const target = uri(server.path, method.query());
      const info = JSON.parse(await runOk('nbdinfo', ['--json', target])) as {
        protocol: string;
        TLS: boolean;
      };
      assert.deepEqual([info.protocol, info.TLS], ['newstyle-fixed', true]);
      const from = folder.file('from.raw');
      const bytes = randomBytes(size);
      await writeFile(from, bytes);
      await runOk('nbdcopy', [from, target]);
      await runOk('nbdcopy', [target, folder.file('to.raw')]);
      await runOk('cmp', [from, folder.file('to.raw')]);
      const open = ['h.set_uri_allow_local_file(True)', `h.connect_uri("${target}")`];
      const lines = [
        ...open,
        'h.pwrite(b"abc", 5)',
        'assert h.pread(3, 5) == b"abc"',
        'assert h.get_tls_negotiated()',
      ];
      const shell = await run('nbdsh', ['-c', lines.join('\n')], { env });
      assert.deepEqual([shell.status, shell.stderr], [0, '']);
    });

    test(`qemu-img and qemu-io talk to our server with ${name}`, requires('qemu-io'), async () => {
      await using server = await serve(await method.server());
      const image = [
        'driver=raw,file.driver=nbd,file.server.type=unix',
        `file.server.path=${server.path},file.tls-creds=tls0,file.tls-hostname=localhost`,
      ].join(',');
      const objects = ['--object', method.qemu()];
      const written = await runOk('qemu-io', [...objects, '--image-opts', image, '-c', 'write -P 7 4k 64k']);
      assert.match(written, /wrote 65536\/65536/);
      const read = await runOk('qemu-io', [...objects, '--image-opts', image, '-c', 'read -P 7 4k 64k']);
      assert.doesNotMatch(read, /failed/);
      const info = await runOk('qemu-img', ['info', ...objects, '--image-opts', '--output=json', image]);
      assert.equal((JSON.parse(info) as Record<string, unknown>)['virtual-size'], size);
    });

    const readBack = async (socket: string, query: string, bytes: Buffer): Promise<void> => {
      await using disk = await openNbd(ours(socket, query), { connections: 2 });
      const back = Buffer.alloc(bytes.length);
      await disk.source.read(back, 0);
      assert.ok(back.equals(bytes));
      if (disk.device === undefined) return;
      await disk.device.write(bytes.subarray(0, 70_000), 100_001);
      await disk.device.read(back.subarray(0, 70_000), 100_001);
      assert.ok(back.subarray(0, 70_000).equals(bytes.subarray(0, 70_000)));
      await disk.device.flush();
    };

    test(`our client talks to qemu-nbd with ${name}`, requires('qemu-nbd'), async () => {
      const file = folder.file('qemu.raw');
      const bytes = randomBytes(size);
      await writeFile(file, bytes);
      const socket = folder.file('qemu');
      const tls = ['--object', method.qemuServer(), '--tls-creds', 'tls0'];
      await using _server: Server = await qemuNbd(file, socket, ['-f', 'raw', '-e', '4', ...tls]);
      await readBack(socket, method.query(), bytes);
    });

    test(`our client talks to nbdkit with ${name}`, requires('nbdkit'), async () => {
      const file = folder.file('kit.raw');
      const bytes = randomBytes(size);
      await writeFile(file, bytes);
      const socket = folder.file(`kit-${name.replaceAll(' ', '-')}`);
      await using _server: Server = await nbdkit(socket, ['--tls=require', ...method.nbdkit(), 'file', file]);
      await readBack(socket, method.query(), bytes);
    });
  }
});
