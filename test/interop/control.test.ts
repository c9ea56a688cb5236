/** `img serve --control` and `img ctl` beside real tools: what commands do is there for clients, and lasts. */
import assert from 'node:assert/strict';
import { lstatSync, readdirSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { openNbd } from '@strata/nbd';
import { connectQmp, type QmpClient } from '@strata/qmp';
import {
  nbdinfo,
  qcow2Blockdev,
  qemuImg,
  qemuIo,
  requires,
  type Server,
  storageDaemon,
  type TemporaryFolder,
  temporaryFolder,
} from '@strata/testkit';
import { img, imgServe } from '../img.ts';

const tools = requires('qemu-img', 'qemu-io', 'nbdinfo');

/** A server with one qcow2 image of 4 MiB, `disk0`, and a client that steers it. */
interface Steered extends AsyncDisposable {
  readonly qmp: QmpClient;
  readonly server: Server;
  readonly folder: TemporaryFolder;
  readonly image: string;
  readonly control: string;
  uri(exportName?: string): string;
  /** Resolves to the exit status. */
  readonly ended: Promise<unknown>;
}

async function steered(args: readonly string[] = []): Promise<Steered> {
  const folder = await temporaryFolder();
  const [image, socket, control] = ['disk.qcow2', 'nbd', 'qmp'].map((name) => folder.file(name)) as [
    string,
    string,
    string,
  ];
  await qemuImg.create(image, '4M');
  const server = await imgServe(socket, ['--control', control, ...args, image]);
  const qmp = await connectQmp({ path: control });
  return {
    qmp,
    server,
    folder,
    image,
    control,
    uri: (name = '') => `nbd+unix:///${name}?socket=${socket}`,
    ended: new Promise((resolve) => server.process.once('close', resolve)),
    [Symbol.asyncDispose]: async () => {
      await qmp[Symbol.asyncDispose]();
      if (server.process.exitCode === null) await server.stop();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** Dirty bytes of the bitmaps of `disk0`, by name. */
async function counts(qmp: QmpClient): Promise<Readonly<Record<string, number>>> {
  const nodes = await qmp.execute<
    readonly {
      'node-name': string;
      'dirty-bitmaps'?: readonly { readonly name: string; readonly count: number }[];
    }[]
  >('query-named-block-nodes', { flat: true });
  const bitmaps = nodes.find((node) => node['node-name'] === 'disk0')?.['dirty-bitmaps'] ?? [];
  return Object.fromEntries(bitmaps.map(({ name, count }) => [name, count]));
}

const add = (name: string, more: object = {}): object => ({ node: 'disk0', name, ...more });
const step = (action: string, name: string): object => ({
  type: `block-dirty-bitmap-${action}`,
  data: { node: 'disk0', name },
});

test(
  'nbdinfo sees an export that was added, with its bitmap, and not one that was removed',
  tools,
  async () => {
    await using disk = await steered();
    await disk.qmp.execute('block-dirty-bitmap-add', add('b0', { persistent: true }));
    await qemuIo(disk.uri(), ['write 1M 64k', 'flush'], 'raw');
    const wish = {
      type: 'nbd',
      id: 'e',
      'node-name': 'disk0',
      name: 'later',
      writable: true,
      bitmaps: ['b0'],
    };
    await disk.qmp.execute('block-export-add', wish);
    const dirty = (await nbdinfo.map(disk.uri('later'), 'qemu:dirty-bitmap:b0')).filter(
      ({ type }) => type === 1,
    );
    assert.deepEqual(
      dirty.map(({ offset, length }) => [offset, length]),
      [[1_048_576, 65_536]],
    );
    await disk.qmp.execute('block-export-del', { id: 'e', mode: 'hard' });
    await assert.rejects(nbdinfo.map(disk.uri('later')));
    assert.equal((await nbdinfo.map(disk.uri())).length > 0, true);
  },
);

test('a disk that is opened by command is served, and its image is whole after the end', tools, async () => {
  await using disk = await steered();
  const [target, base] = [disk.folder.file('target.qcow2'), disk.folder.file('base.raw')];
  await qemuImg.create(base, '1M', { format: 'raw' });
  await qemuImg.create(target, undefined, { backing: { name: base, format: 'raw' } });
  const file = { driver: 'file', filename: target };
  await disk.qmp.execute('blockdev-add', { driver: 'qcow2', 'node-name': 't', file });
  await disk.qmp.execute('block-export-add', { type: 'nbd', id: 't', 'node-name': 't', writable: true });
  await qemuIo(disk.uri('t'), ['write -P 5 0 100k', 'flush'], 'raw');
  await disk.qmp.execute('quit');
  assert.equal(await disk.ended, 0);
  await qemuIo(target, ['read -P 5 0 100k', 'read -P 0 100k 100k']);
  assert.equal((await qemuImg.check(target)).status, 0);
});

test(
  'bitmaps that were made and recorded by command are in the image after quit, transient ones are not',
  tools,
  async () => {
    await using disk = await steered();
    await disk.qmp.execute('block-dirty-bitmap-add', add('kept', { persistent: true, granularity: 65_536 }));
    await disk.qmp.execute('block-dirty-bitmap-add', add('gone'));
    await qemuIo(disk.uri(), ['write 0 1', 'write -z 200k 1', 'discard 3M 64k', 'flush'], 'raw');
    assert.deepEqual(await counts(disk.qmp), { kept: 3 * 65_536, gone: 3 * 65_536 });
    assert.deepEqual(await disk.qmp.execute('quit'), {});
    assert.equal(await disk.ended, 0);
    assert.deepEqual(readdirSync(disk.folder.path), ['disk.qcow2']);
    const listed = JSON.parse(await img.ok('bitmap', '--list', '--output=json', disk.image)) as unknown;
    assert.deepEqual(listed, [
      { name: 'kept', granularity: 65_536, recording: true, persistent: true, count: 3 * 65_536 },
    ]);
    await qemuImg.ok('bitmap', '--disable', disk.image, 'kept');
  },
);

test('of a transaction whose third step fails nothing stays', tools, async () => {
  await using disk = await steered();
  await disk.qmp.execute('block-dirty-bitmap-add', add('b0', { persistent: true }));
  await qemuIo(disk.uri(), ['write 0 128k', 'flush'], 'raw');
  const before = await disk.qmp.execute('query-named-block-nodes', { flat: true });
  const actions = [step('add', 'b1'), step('clear', 'b0'), step('remove', 'none')];
  await assert.rejects(disk.qmp.execute('transaction', { actions }), /Dirty bitmap 'none' not found/);
  assert.deepEqual(await disk.qmp.execute('query-named-block-nodes', { flat: true }), before);
});

test('no write falls between two bitmaps that take turns in a transaction', tools, async () => {
  await using disk = await steered();
  const turns = 20;
  const block = 512;
  await using connection = await openNbd({
    address: { path: disk.folder.file('nbd') },
    exportName: '',
    user: undefined,
  });
  const { device } = connection;
  assert.ok(device);
  await disk.qmp.execute('block-dirty-bitmap-add', add('b0', { granularity: block }));
  // Each block is written once: a write that nobody recorded is not made up for by another one.
  let written = 0;
  let isOver = false;
  const writers = Array.from({ length: 8 }, async () => {
    const bytes = new Uint8Array(block).fill(1);
    while (!isOver && written < device.size / block) await device.write(bytes, block * written++);
  });
  for (let turn = 0; turn < turns; turn++) {
    // The bitmap that ends comes first: between the two steps nobody would record.
    const next = { type: 'block-dirty-bitmap-add', data: add(`b${turn + 1}`, { granularity: block }) };
    await disk.qmp.execute('transaction', { actions: [step('disable', `b${turn}`), next] });
  }
  isOver = true;
  await Promise.all(writers);
  await disk.qmp.execute('block-dirty-bitmap-add', add('all', { disabled: true, granularity: block }));
  const bitmaps = Array.from({ length: turns + 1 }, (_, turn) => `b${turn}`);
  await disk.qmp.execute('block-dirty-bitmap-merge', { node: 'disk0', target: 'all', bitmaps });
  assert.equal((await counts(disk.qmp))['all'], written * block);
});

test(
  'a bitmap that a server began to export with is busy until the last of its exports is gone',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const [image, other] = [folder.file('disk.qcow2'), folder.file('other.qcow2')];
    for (const path of [image, other]) await qemuImg.create(path, '4M');
    await qemuImg.ok('bitmap', '--add', image, 'b0');
    const control = folder.file('qmp');
    {
      await using _server = await imgServe(folder.file('nbd'), ['--control', control, '-B', 'b0', image]);
      await using qmp = await connectQmp({ path: control });
      const remove = () => qmp.execute('block-dirty-bitmap-remove', add('b0'));
      const exports = await qmp.execute<readonly { readonly id: string }[]>('query-block-exports');
      assert.deepEqual(
        exports.map(({ id }) => id),
        ['disk.qcow2', 'export'],
      );
      for (const { id } of exports) {
        await assert.rejects(remove(), /currently in use/);
        await qmp.execute('block-export-del', { id });
      }
      await remove();
    }
    await using _server = await imgServe(folder.file('nbd'), ['--control', control, `x=${image}`, other]);
    await using qmp = await connectQmp({ path: control });
    const told = await qmp.execute<readonly Record<string, unknown>[]>('query-block-exports');
    assert.deepEqual(
      told.map((each) => [each['id'], each['node-name']]),
      [
        ['other.qcow2', 'disk1'],
        ['x', 'x'],
      ],
    );
  },
);

test('hostile clients of the control socket are no concern of who reads and writes', tools, async () => {
  await using disk = await steered();
  assert.equal(lstatSync(disk.control).mode & 0o777, 0o600);
  const sent = [
    '[[[['.repeat(10_000),
    '{"execute":"x',
    '\u0000\u0001',
    '}]}]'.repeat(1000),
    'x'.repeat(5_000_000),
  ];
  for (const bytes of sent) {
    const socket = connectSocket(disk.control).on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.resume().end(bytes);
    await closed;
  }
  await qemuIo(disk.uri(), ['write -P 3 0 64k', 'read -P 3 0 64k'], 'raw');
  assert.equal((await disk.qmp.execute<readonly unknown[]>('query-block-exports')).length, 2);
});

test('a signal ends a server whose clients of either kind stay', tools, async () => {
  await using disk = await steered();
  await using _connection = await openNbd({
    address: { path: disk.folder.file('nbd') },
    exportName: '',
    user: undefined,
  });
  assert.equal(await disk.server.stop(), 0);
  const rest: unknown[] = [];
  for await (const event of disk.qmp.events()) rest.push(event);
  assert.deepEqual(rest, []);
});

test(
  'ctl tells, asks and fails as the server says, ours and the real daemon alike',
  requires('qemu-storage-daemon', 'qemu-img'),
  async () => {
    await using disk = await steered();
    await using daemon = await storageDaemon(disk.folder.path, {
      blockdevs: [{ driver: 'null-co', 'node-name': 'disk0', size: 4_194_304 }],
    });
    const monitor = join(disk.folder.path, 'daemon.qmp');
    // Its monitor takes one client at a time.
    await daemon.qmp[Symbol.asyncDispose]();
    for (const [socket, writable] of [
      [disk.control, 'true'],
      [monitor, 'true'],
    ] as const) {
      const ctl = (...words: readonly string[]) => img.run('ctl', socket, ...words);
      const exporting = [
        'block-export-add',
        'type=nbd',
        'id=e',
        'node-name=disk0',
        'name=e',
        `writable=${writable}`,
      ];
      assert.deepEqual(await ctl(...exporting), { status: 0, stdout: '{}\n', stderr: '' });
      assert.deepEqual(await ctl(...exporting), {
        status: 1,
        stdout: '',
        stderr: "img: Block export id 'e' is already in use\n",
      });
      assert.match((await ctl('query-block-exports')).stdout, /^ID.*\ne +disk0 +nbd +offered\n/);
      const { stdout } = await ctl('query-block-exports', '--output=json');
      assert.equal((JSON.parse(stdout) as readonly { readonly id: string }[])[0]?.id, 'e');
      assert.equal((await ctl('block-export-del', '{"id": "e", "mode": "hard"}')).status, 0);
      const target = ['driver=null-co', 'node-name=target', 'size=4194304', 'read-zeroes=true'];
      assert.equal((await ctl('blockdev-add', ...target)).status, 0);
      const backup = ['blockdev-backup', 'job-id=j', 'device=disk0', 'target=target', 'sync=full'];
      assert.deepEqual(await ctl('--wait-job', 'j', ...backup), { status: 0, stdout: '{}\n', stderr: '' });
      assert.deepEqual(await ctl('--wait-job', 'j'), {
        status: 1,
        stdout: '',
        stderr: "img: Job not found: 'j'\n",
      });
      assert.match((await ctl('query-version', 'x=1')).stderr, /^img: Parameter 'x' is unexpected\n$/);
    }
  },
);

test(
  'qemu-storage-daemon reads an image whose bitmaps were steered by us',
  requires('qemu-storage-daemon', 'qemu-img', 'qemu-io', 'nbdinfo'),
  async () => {
    await using disk = await steered();
    await disk.qmp.execute('block-dirty-bitmap-add', add('b0', { persistent: true }));
    await qemuIo(disk.uri(), ['write 0 128k', 'flush'], 'raw');
    const sum = await disk.qmp.execute('x-debug-block-dirty-bitmap-sha256', { node: 'disk0', name: 'b0' });
    await disk.qmp.execute('quit');
    await disk.ended;
    await using daemon = await storageDaemon(disk.folder.path, {
      blockdevs: [qcow2Blockdev('disk0', disk.image)],
    });
    const theirs = await daemon.qmp.execute('x-debug-block-dirty-bitmap-sha256', {
      node: 'disk0',
      name: 'b0',
    });
    assert.deepEqual(theirs, sum);
  },
);
