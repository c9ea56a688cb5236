/** A public QMP client, npm's qemu-qmp, steers `img serve`: another's reading of the protocol than ours. */
import assert from 'node:assert/strict';
import type { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { nbdinfo, qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { imgServe } from '../img.ts';

type Answered = (error: Error | null, value: unknown) => void;

/** As its README describes it. */
interface PublicClient extends EventEmitter {
  readonly version: { readonly qemu: { readonly major: number } };
  connect(path: string, done: (error: Error | null) => void): void;
  execute(command: string, done: Answered): void;
  execute(command: string, args: object, done: Answered): void;
}

async function connected(path: string): Promise<PublicClient> {
  const Client = createRequire(import.meta.url)('qemu-qmp') as new () => PublicClient;
  const client = new Client();
  await new Promise<void>((resolve, reject) => {
    client.connect(path, (error) => (error ? reject(error) : resolve()));
  });
  return client;
}

function execute(client: PublicClient, command: string, args: object = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    client.execute(command, args, (error, value) => (error ? reject(error) : resolve(value)));
  });
}

test(
  'it negotiates, makes a bitmap and an export, hears of an event and of an error, and ends the server',
  requires('qemu-img', 'nbdinfo'),
  async () => {
    await using folder = await temporaryFolder();
    const [image, socket, control] = [folder.file('disk.qcow2'), folder.file('nbd'), folder.file('qmp')];
    await qemuImg.create(image, '4M');
    await using server = await imgServe(socket, ['--control', control, image]);
    const ended = new Promise((resolve) => server.process.once('close', resolve));
    const client = await connected(control);
    assert.ok(client.version.qemu.major >= 7);
    const nodes = (await execute(client, 'query-named-block-nodes')) as { readonly 'node-name': string }[];
    assert.ok(nodes.some((node) => node['node-name'] === 'disk0'));
    await execute(client, 'block-dirty-bitmap-add', { node: 'disk0', name: 'b0', persistent: true });
    const added = {
      type: 'nbd',
      id: 'second',
      'node-name': 'disk0',
      name: 'second',
      writable: true,
      bitmaps: ['b0'],
    };
    await execute(client, 'block-export-add', added);
    const uri = `nbd+unix:///second?socket=${socket}`;
    assert.deepEqual(
      (await nbdinfo.map(uri, 'qemu:dirty-bitmap:b0')).map(({ offset, length, type }) => [
        offset,
        length,
        type,
      ]),
      [[0, 4 << 20, 0]],
    );
    const deleted = new Promise((resolve) => client.once('block_export_deleted', resolve));
    await execute(client, 'block-export-del', { id: 'second' });
    assert.equal(await deleted, 'BLOCK_EXPORT_DELETED');
    await assert.rejects(execute(client, 'block-export-del', { id: 'second' }), {
      message: "Export 'second' is not found",
    });
    await execute(client, 'quit');
    assert.equal(await ended, 0);
    const { 'format-specific': specific } = JSON.parse(await qemuImg.ok('info', '--output=json', image)) as {
      readonly 'format-specific': {
        readonly data: { readonly bitmaps: readonly { readonly name: string }[] };
      };
    };
    assert.deepEqual(
      specific.data.bitmaps.map(({ name }) => name),
      ['b0'],
    );
  },
);
