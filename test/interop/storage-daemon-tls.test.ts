/** qemu-storage-daemon at the other end of TLS: certificates that both sides verify, and pre-shared keys. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  nbdinfo,
  qemuImg,
  qemuIo,
  requires,
  storageDaemon,
  type TemporaryFolder,
  temporaryFolder,
  tlsFolder,
} from '@strata/testkit';
import { img, imgServe } from '../img.ts';

const tools = requires('qemu-storage-daemon', 'qemu-img', 'qemu-io', 'nbdinfo', 'openssl');

/** A way to know each other: QEMU's type of credentials, what the client needs beside, and the same in a URI. */
const manners = [
  {
    qomType: 'tls-creds-x509',
    client: { 'verify-peer': true },
    node: { 'tls-hostname': 'localhost' },
    user: '',
    inUri: (dir: string) => `tls-certificates=${dir}&tls-hostname=localhost`,
  },
  {
    qomType: 'tls-creds-psk',
    client: { username: 'alice' },
    node: {},
    user: 'alice@',
    inUri: (dir: string) => `tls-psk-file=${dir}/keys.psk`,
  },
];

describe('qemu-storage-daemon and TLS', tools, () => {
  let folder: TemporaryFolder;
  let dir: string;
  before(async () => {
    folder = await temporaryFolder();
    dir = folder.file('pki');
    await tlsFolder(dir);
  });
  after(() => folder[Symbol.asyncDispose]());

  for (const { qomType, client, node, user, inUri } of manners) {
    const server = { 'qom-type': qomType, id: 't', endpoint: 'server', 'verify-peer': true };

    test(`img reads and writes what it exports with ${qomType}, and nothing without`, async () => {
      const image = folder.file(`theirs-${qomType}.raw`);
      const copy = folder.file(`copy-${qomType}.qcow2`);
      await qemuImg.create(image, '8M', { format: 'raw' });
      await qemuImg.create(copy, '8M');
      await qemuIo(copy, ['write -P 1 1M 3M', 'write -P 2 7999k 1000']);
      await using daemon = await storageDaemon(
        folder.path,
        {
          objects: [{ ...server, dir }],
          blockdevs: [{ driver: 'raw', 'node-name': 'disk', file: { driver: 'file', filename: image } }],
          exports: [{ id: 'a', 'node-name': 'disk', writable: true }],
          tlsCreds: 't',
        },
        qomType,
      );
      const uri = `nbds+unix://${user}/disk?socket=${daemon.socket}&${inUri(dir)}`;
      await img.ok('convert', '-n', '-f', 'qcow2', '-O', 'raw', copy, uri);
      assert.match(await img.ok('compare', '-F', 'qcow2', uri, copy), /identical/);
      const list = await img.ok('info', '--list', uri.replace('disk?', '?'));
      assert.match(list, /^exports available: 1\n export: 'disk'\n/);
      const map = JSON.parse(await img.ok('map', '--context', 'base:allocation', '--output=json', uri));
      assert.deepEqual(map, await nbdinfo.map(uri));
      const plain = await img.run('info', daemon.uri('disk'));
      assert.equal(plain.status, 1);
      assert.match(plain.stderr, /TLS/);
      assert.equal(await daemon.stop(), 0);
      await qemuImg.compare(image, 'raw', copy, 'qcow2');
    });

    test(`it serves on in plain text what our server has with ${qomType}`, async () => {
      const image = folder.file(`ours-${qomType}.qcow2`);
      const expected = folder.file(`expected-${qomType}.raw`);
      await qemuImg.create(image, '8M');
      await qemuImg.create(expected, '8M', { format: 'raw' });
      const socket = folder.file(`ours-${qomType}`);
      const words = Object.entries({ ...server, dir, 'verify-peer': 'on' }).map(([key, value]) =>
        key === 'qom-type' ? value : `${key}=${value}`,
      );
      {
        const secured = ['--object', words.join(','), '--tls-creds', 't'];
        await using _ours = await imgServe(socket, ['-f', 'qcow2', ...secured, `disk=${image}`]);
        const path = socket;
        await using daemon = await storageDaemon(
          folder.path,
          {
            objects: [{ 'qom-type': qomType, id: 'c', dir, endpoint: 'client', ...client }],
            blockdevs: [
              {
                driver: 'nbd',
                'node-name': 'ours',
                export: 'disk',
                server: { type: 'unix', path },
                'tls-creds': 'c',
                ...node,
              },
            ],
            exports: [{ id: 'a', 'node-name': 'ours', writable: true }],
          },
          `over-${qomType}`,
        );
        const writes = [
          'write -P 1 100k 2M',
          'write -z 1M 300k',
          'aio_write -P 3 5M 3M',
          'aio_flush',
          'flush',
        ];
        await qemuIo(daemon.uri('ours'), writes, 'raw');
        await qemuIo(expected, writes, 'raw');
        await qemuImg.compare(daemon.uri('ours'), 'raw', expected, 'raw');
        assert.equal(await daemon.stop(), 0);
      }
      await qemuImg.compare(image, 'qcow2', expected, 'raw');
    });
  }
});
