import assert from 'node:assert/strict';
import { existsSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { openChain } from '@strata/chain';
import { openNbd } from '@strata/nbd';
import { nbdinfo, qemuImg, qemuIo, requires, runOk, temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { openingFor } from '../../src/open.ts';
import { recordingTerminal } from '../recording-terminal.ts';
import { serveImg } from '../run-img.ts';

async function img(...words: readonly string[]): Promise<string> {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  assert.equal(status, 0, terminal.stderr());
  return terminal.stdout();
}

test(
  'one image has its own name and the empty one, and the URI is printed once clients may connect',
  requires('nbdinfo'),
  async () => {
    await using folder = await temporaryFolder();
    const image = folder.file('disk.qcow2');
    await img('create', '-f', 'qcow2', image, '1M');
    await using server = await serveImg('-k', folder.file('socket'), '-D', 'a disk', image);
    assert.deepEqual(server.uris, [`nbd+unix:///?socket=${folder.file('socket')}`]);
    const list = (await nbdinfo.json(server.uris[0] ?? '', '--list'))['exports'] as readonly Record<
      string,
      unknown
    >[];
    assert.deepEqual(
      list.map((each) => [
        each['export-name'],
        each['description'],
        each['export-size'],
        each['is_read_only'],
      ]),
      [
        ['', 'a disk', 1 << 20, false],
        ['disk.qcow2', 'a disk', 1 << 20, false],
      ],
    );
    server.process.kill('SIGTERM');
    const { status, stdout, stderr } = await server.ended();
    assert.deepEqual([status, stdout, stderr], [0, `${server.uris[0]}\n`, '']);
    assert.equal(existsSync(folder.file('socket')), false);
  },
);

test('several images are several exports, under one name none twice', requires('nbdinfo'), async () => {
  await using folder = await temporaryFolder();
  const [a, b] = [folder.file('a.qcow2'), folder.file('b.qcow2')];
  await img('create', '-f', 'qcow2', a, '1M');
  await img('create', '-f', 'qcow2', b, '2M');
  await using server = await serveImg('-k', folder.file('socket'), '-r', a, b);
  assert.equal(server.uris.length, 2);
  const sizes = await Promise.all(server.uris.map((uri) => runOk('nbdinfo', ['--size', uri])));
  assert.deepEqual(sizes, ['1048576\n', '2097152\n']);
  await assert.rejects(
    serveImg('-k', folder.file('other'), '-r', a, a),
    /two images would have the export name/,
  );
});

test(
  'what clients write is in the image when the server has stopped',
  requires('qemu-io', 'qemu-img'),
  async () => {
    await using folder = await temporaryFolder();
    const image = folder.file('disk.qcow2');
    await img('create', '-f', 'qcow2', image, '1M');
    const server = await serveImg('-p', '0', '-x', 'name', image);
    const [uri = ''] = server.uris;
    assert.match(uri, /^nbd:\/\/127\.0\.0\.1:\d+\/name$/);
    await qemuIo(uri, ['write -P 7 64k 64k', 'flush'], 'raw');
    server.process.kill('SIGINT');
    assert.equal((await server.ended()).status, 0);
    await qemuIo(image, ['read -P 7 64k 64k', 'read -P 0 128k 64k']);
    const { status } = await qemuImg.check(image);
    assert.equal(status, 0);
  },
);

test('a raw image is written to only by those who say that it is raw', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  writeFileSync(image, '');
  truncateSync(image, 1 << 20);
  const socket = folder.file('socket');
  await assert.rejects(serveImg('-k', socket, image), /add '-f raw'.*, or '-r'/);
  await using readOnly = await serveImg('-k', socket, '-r', image);
  assert.equal(readOnly.uris.length, 1);
  await using writable = await serveImg('-k', folder.file('other'), '-f', 'raw', folder.file('disk.raw'));
  assert.equal(writable.uris.length, 1);
});

test('a client that stays connected does not keep the server from stopping', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  await img('create', '-f', 'qcow2', image, '1M');
  const server = await serveImg('-k', folder.file('socket'), image);
  await using client = await openNbd(server.uris[0] ?? '');
  const bytes = new Uint8Array(4096).fill(5);
  await client.device?.write(bytes, 0);
  // Of what is not flushed the client could not tell whether it is safe, and closing would say so.
  await client.device?.flush();
  server.process.kill('SIGTERM');
  server.process.kill('SIGTERM');
  assert.equal((await server.ended()).status, 0);
  await using chain = await openChain(image, openingFor([image], { allow: [], format: undefined }));
  const found = new Uint8Array(4096);
  await chain.source.read(found, 0);
  assert.deepEqual(found, bytes);
});

test('the map of an export of a chain has the depths of the chain', requires('qemu-io'), async () => {
  await using folder = await temporaryFolder();
  const [base, top] = [folder.file('base.qcow2'), folder.file('top.qcow2')];
  await img('create', '-f', 'qcow2', base, '1M');
  await qemuIo(base, ['write -P 1 0 64k', 'write -z 512k 64k']);
  await img('create', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top);
  await qemuIo(top, ['write -P 2 128k 64k']);
  const map = async (name: string) =>
    (JSON.parse(await img('map', '--output=json', name)) as readonly Record<string, unknown>[]).map(
      (entry) => [entry['start'], entry['length'], entry['depth'], entry['zero'], entry['data']],
    );
  const local = await map(top);
  await using server = await serveImg('-k', folder.file('socket'), '-A', top);
  const remote = await map(server.uris[0] ?? '');
  // Over the wire nobody tells how deep a chain is where none of its images holds anything.
  const present = (entries: typeof local) => entries.filter(([, , , zero, data]) => data || !zero);
  assert.deepEqual(present(remote), present(local));
  assert.deepEqual(
    present(remote).map(([start, , depth]) => [start, depth]),
    [
      [0, 1],
      [131072, 0],
    ],
  );
});
