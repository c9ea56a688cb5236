/** One table of commands, given to the real qemu-storage-daemon and to `img serve --control`: replies and events are the same. */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { type NbdConnection, openNbd } from '@strata/nbd';
import { connectQmp, type QmpClient, QmpError } from '@strata/qmp';
import { qcow2Blockdev, qemuImg, qemuIo, requires, storageDaemon, temporaryFolder } from '@strata/testkit';
import { imgServe } from '../img.ts';

const tools = requires('qemu-storage-daemon', 'qemu-img', 'qemu-io');

/** A server under test. */
interface Peer {
  readonly qmp: QmpClient;
  readonly folder: string;
  /** Of its NBD server. */
  readonly socket: string;
}

/** What is done with both: a command, or something around it. */
type Step = readonly [command: string, given?: object] | ((peer: Peer) => Promise<unknown>);

/** What came of a step. */
async function outcome(step: Step, peer: Peer): Promise<unknown> {
  if (typeof step === 'function') return await step(peer);
  const [command, given = {}] = step;
  const placed = JSON.parse(JSON.stringify(given).replaceAll('DIR', peer.folder)) as object;
  const reply = await peer.qmp.execute(command, placed).catch((error: unknown) => {
    if (!(error instanceof QmpError)) throw error;
    return [error.kind, error.message];
  });
  return { step, reply: plain(reply, peer) };
}

/** Without what differs from server to server: folders, generated names, sizes of files. */
function plain(reply: unknown, { folder }: Peer): unknown {
  const text = JSON.stringify(reply)
    .replaceAll(folder, 'DIR')
    .replaceAll(/#block\d+/g, '#block');
  return JSON.parse(text, (name, value: unknown) => (fickle.has(name) ? undefined : value)) as unknown;
}

const fickle: ReadonlySet<string> = new Set(['actual-size', 'format-specific']);

const bitmap = (action: string, given: object): Step => [
  `block-dirty-bitmap-${action}`,
  { node: 'n', ...given },
];
const exporting = (id: string, more: object = {}): Step => [
  'block-export-add',
  { type: 'nbd', id, 'node-name': 'n', ...more },
];
const step = (type: string, data: object): object => ({ type, data });
const bitmapStep = (action: string, name: string, more: object = {}): object =>
  step(`block-dirty-bitmap-${action}`, { node: 'n', name, ...more });
const transaction = (...actions: readonly object[]): Step => ['transaction', { actions }];

/** What is told of bitmaps and nodes. */
const nodes: Step = async (peer) => {
  const told = await peer.qmp.execute<readonly Record<string, unknown>[]>('query-named-block-nodes', {
    flat: true,
  });
  const found = told.map((node) => {
    const { image, ...rest } = node;
    const { 'virtual-size': size, ...about } = image as Record<string, unknown>;
    return { ...rest, image: node['drv'] === 'file' ? about : { ...about, size } };
  });
  return plain(found, peer);
};

const held: NbdConnection[] = [];

/** A client that stays. */
const connect =
  (exportName: string): Step =>
  async ({ socket }) => {
    held.push(await openNbd({ address: { path: socket }, exportName, user: undefined }));
  };

const steps: readonly Step[] = [
  ['query-block'],
  ['query-block-exports'],
  nodes,
  ['query-named-block-nodes'],
  // Bitmaps.
  bitmap('add', { name: 'b0', persistent: true }),
  bitmap('add', { name: 'b0' }),
  bitmap('add', { name: 'b1' }),
  bitmap('add', { name: 'b2', disabled: true, granularity: 4096 }),
  bitmap('add', { name: '' }),
  bitmap('add', { name: 'x', granularity: 1000 }),
  bitmap('add', { name: 'x', granularity: 256 }),
  ['block-dirty-bitmap-add', { node: 'zz', name: 'b' }],
  ['block-dirty-bitmap-add', { node: '', name: 'b' }],
  nodes,
  ...['remove', 'clear', 'enable', 'disable'].flatMap((action): Step[] => [
    bitmap(action, { name: 'none' }),
    [`block-dirty-bitmap-${action}`, { node: 'zz', name: 'b' }],
  ]),
  bitmap('merge', { target: 'none', bitmaps: ['b0'] }),
  bitmap('merge', { target: 'b2', bitmaps: ['b0', 'none'] }),
  bitmap('merge', { target: 'b2', bitmaps: [{ node: 'zz', name: 'b0' }] }),
  bitmap('merge', { target: 'b2', bitmaps: [{ node: 'n', name: 'none' }] }),
  ['x-debug-block-dirty-bitmap-sha256', { node: 'n', name: 'none' }],
  ['x-debug-block-dirty-bitmap-sha256', { node: 'zz', name: 'b0' }],
  // What was written is in those that record.
  async ({ socket }) => {
    const writes = ['write 0 64k', 'write -z 300k 4k', 'discard 640k 128k', 'flush'];
    await qemuIo(`nbd+unix:///n?socket=${socket}`, writes, 'raw');
  },
  nodes,
  ...['b0', 'b1', 'b2'].map((name): Step => ['x-debug-block-dirty-bitmap-sha256', { node: 'n', name }]),
  bitmap('merge', { target: 'b2', bitmaps: ['b0', { node: 'n', name: 'b1' }] }),
  bitmap('merge', { target: 'b2', bitmaps: ['b2'] }),
  ['x-debug-block-dirty-bitmap-sha256', { node: 'n', name: 'b2' }],
  bitmap('clear', { name: 'b1' }),
  bitmap('disable', { name: 'b1' }),
  bitmap('enable', { name: 'b2' }),
  bitmap('enable', { name: 'b2' }),
  nodes,
  bitmap('disable', { name: 'b2' }),
  // Exports.
  ['block-export-add', { type: 'nbd', id: 'e', 'node-name': 'zz' }],
  ['block-export-add', { type: 'nbd', id: 'e' }],
  ['block-export-add', { type: 'other', id: 'e', 'node-name': 'n' }],
  ['block-export-add', { id: 'e', 'node-name': 'n' }],
  exporting('-e'),
  exporting('n'),
  exporting('e'),
  exporting('e', { name: 'x', foo: 1 }),
  exporting('e', { name: 'x', bitmaps: ['none'] }),
  exporting('e', { name: 'x', bitmaps: [{ node: 'zz', name: 'b0' }] }),
  exporting('e', { name: 'x', bitmaps: ['b0'] }),
  exporting('e', { name: 'x', iothread: 'io' }),
  exporting('e', { name: 'x', bitmaps: ['b2', 'b2'], 'allocation-depth': true, description: 'for tests' }),
  exporting('e', { name: 'y' }),
  exporting('e2', { name: 'y', bitmaps: ['b2'] }),
  exporting('e2', { name: 'y', bitmaps: ['b0', 'b1'], writable: true, writethrough: true }),
  ['query-block-exports'],
  nodes,
  ...['remove', 'clear', 'enable', 'disable'].map((action) => bitmap(action, { name: 'b2' })),
  bitmap('merge', { target: 'b2', bitmaps: ['b1'] }),
  connect('y'),
  ['block-export-del', { id: 'e2' }],
  ['block-export-del', { id: 'e2', mode: 'safe' }],
  ['block-export-del', { id: 'none' }],
  ['block-export-del', { id: 'e2', mode: 'hard' }],
  async ({ qmp }) => (await qmp.event('BLOCK_EXPORT_DELETED')).data,
  ['block-export-del', { id: 'e' }],
  async ({ qmp }) => (await qmp.event('BLOCK_EXPORT_DELETED')).data,
  ['nbd-server-add', { device: 'n', name: 'old' }],
  ['nbd-server-add', { device: 'n', name: 'old' }],
  ['nbd-server-add', { device: 'zz' }],
  ['nbd-server-add', { device: 'n', name: 'z', bitmap: 'b0' }],
  ['query-block-exports'],
  ['nbd-server-remove', { name: 'old' }],
  ['nbd-server-remove', { name: 'old' }],
  nodes,
  // Transactions.
  transaction(),
  transaction(step('abort', {})),
  transaction(bitmapStep('add', 't'), bitmapStep('clear', 't'), bitmapStep('add', 't')),
  transaction(
    bitmapStep('add', 't'),
    bitmapStep('disable', 'b0'),
    bitmapStep('clear', 'b0'),
    step('abort', {}),
  ),
  transaction(
    step('block-dirty-bitmap-merge', { node: 'n', target: 'b0', bitmaps: ['b2'] }),
    bitmapStep('enable', 'b1'),
    bitmapStep('remove', 'none'),
  ),
  transaction(bitmapStep('remove', 'b0'), step('abort', {})),
  transaction(bitmapStep('remove', 'b0'), bitmapStep('clear', 'b0')),
  nodes,
  ['x-debug-block-dirty-bitmap-sha256', { node: 'n', name: 'b0' }],
  ['transaction', { actions: [bitmapStep('add', 't')], properties: { 'completion-mode': 'grouped' } }],
  ['transaction', { actions: [step('abort', {})], properties: { 'completion-mode': 'grouped' } }],
  ['transaction', { actions: [bitmapStep('add', 't')], properties: { 'completion-mode': 'individual' } }],
  transaction(
    bitmapStep('add', 't2', { persistent: true }),
    bitmapStep('disable', 'b0'),
    bitmapStep('remove', 't'),
  ),
  nodes,
  // Disks.
  ['blockdev-add', { driver: 'qcow2', 'node-name': 'n', file: { driver: 'file', filename: 'DIR/t.qcow2' } }],
  ['blockdev-add', { driver: 'qcow2', file: { driver: 'file', filename: 'DIR/t.qcow2' } }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't', file: { driver: 'file', filename: 'DIR/none' } }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't', file: { driver: 'file', filename: 'DIR/t.raw' } }],
  ['blockdev-add', { driver: 'other', 'node-name': 't' }],
  ['blockdev-add', { 'node-name': 't' }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't' }],
  ['blockdev-add', { driver: 'file', 'node-name': 't' }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': '#t', file: { driver: 'file', filename: 'DIR/t.qcow2' } }],
  ['blockdev-add', { driver: 'null-co', 'node-name': 'a'.repeat(32) }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't', file: { driver: 'file', filename: 'f', foo: 1 } }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't', file: { driver: 'file', filename: 'f' }, foo: 1 }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't', file: 5 }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't', file: { driver: 'file', filename: 'DIR/t.qcow2' } }],
  ['blockdev-add', { driver: 'raw', 'node-name': 'r', file: { driver: 'file', filename: 'DIR/t.raw' } }],
  [
    'blockdev-add',
    { driver: 'qcow2', 'node-name': 'o', file: { driver: 'file', filename: 'DIR/o.qcow2' }, backing: 'zz' },
  ],
  [
    'blockdev-add',
    { driver: 'qcow2', 'node-name': 'o', file: { driver: 'file', filename: 'DIR/o.qcow2' }, backing: 'r' },
  ],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't9', file: { driver: 'file', filename: 'DIR/t.qcow2' } }],
  ['blockdev-del', { 'node-name': 'r' }],
  ['blockdev-del', { 'node-name': 'none' }],
  ['block-dirty-bitmap-merge', { node: 't', target: 'kept', bitmaps: [{ node: 'n', name: 'b2' }] }],
  [
    'block-export-add',
    { type: 'nbd', id: 'over', 'node-name': 'o', writable: true, bitmaps: [{ node: 't', name: 'kept' }] },
  ],
  ['blockdev-del', { 'node-name': 'o' }],
  ['query-block-exports'],
  async ({ socket }) => {
    await qemuIo(`nbd+unix:///o?socket=${socket}`, ['write -P 7 512k 64k', 'read -P 0 0 64k'], 'raw');
  },
  // Its client has hung up, and each server hears of that in its own time.
  async ({ qmp }) => {
    for (;;) {
      const reply = await qmp
        .execute('block-export-del', { id: 'over' })
        .catch((error: QmpError) => error.message);
      if (reply !== "export 'over' still in use") return reply;
    }
  },
  ['blockdev-del', { 'node-name': 'o' }],
  ['blockdev-del', { 'node-name': 'r' }],
  ['blockdev-del', { 'node-name': 't' }],
  // A file that is a node by itself.
  ['blockdev-add', { driver: 'file', 'node-name': 'f', filename: 'DIR/t.qcow2' }],
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't', file: 'none' }],
  nodes,
  ['blockdev-add', { driver: 'qcow2', 'node-name': 't', file: 'f' }],
  nodes,
  ['blockdev-del', { 'node-name': 'f' }],
  ['blockdev-add', { driver: 'null-co', 'node-name': 'f' }],
  ['blockdev-del', { 'node-name': 't' }],
  nodes,
  ['blockdev-add', { driver: 'luks', 'node-name': 't', file: 'f' }],
  ['blockdev-del', { 'node-name': 'f' }],
  ['blockdev-del', { 'node-name': 'f' }],
  [
    'blockdev-add',
    {
      driver: 'qcow2',
      'node-name': 'o',
      file: { driver: 'file', filename: 'DIR/o.qcow2' },
      'read-only': true,
    },
  ],
  ['block-export-add', { type: 'nbd', id: 'over', 'node-name': 'o', writable: true }],
  ['nbd-server-add', { device: 'o', writable: true }],
  ['query-block-exports'],
  ['nbd-server-remove', { name: 'o' }],
  ['blockdev-del', { 'node-name': 'o' }],
  [
    'blockdev-add',
    { driver: 'qcow2', 'node-name': 'old', file: { driver: 'file', filename: 'DIR/v2.qcow2' } },
  ],
  ['block-dirty-bitmap-add', { node: 'old', name: 'x', persistent: true }],
  ['blockdev-add', { driver: 'null-co', 'node-name': 'nul', size: 1_048_576, 'read-zeroes': true }],
  ['block-export-add', { type: 'nbd', id: 'nul', 'node-name': 'nul', writable: true }],
  ['blockdev-del', { 'node-name': 'nul' }],
  ['block-export-del', { id: 'nul' }],
  ['blockdev-del', { 'node-name': 'nul' }],
  // A bitmap that was not stored.
  ['blockdev-add', { driver: 'qcow2', 'node-name': 'i', file: { driver: 'file', filename: 'DIR/i.qcow2' } }],
  nodes,
  ...['clear', 'enable', 'disable'].map(
    (action): Step => [`block-dirty-bitmap-${action}`, { node: 'i', name: 'bad' }],
  ),
  ['block-dirty-bitmap-merge', { node: 'i', target: 'bad', bitmaps: ['good'] }],
  ['block-dirty-bitmap-merge', { node: 'i', target: 'good', bitmaps: ['bad'] }],
  ['block-export-add', { type: 'nbd', id: 'i', 'node-name': 'i', bitmaps: ['bad'] }],
  transaction(step('block-dirty-bitmap-remove', { node: 'i', name: 'bad' }), step('abort', {})),
  ['block-dirty-bitmap-remove', { node: 'i', name: 'bad' }],
  nodes,
  ['blockdev-del', { 'node-name': 'i' }],
  ['quit', { x: 1 }],
  ['quit'],
];

/** What `info` tells of a qcow2 image, as far as the order in it is nobody's promise. */
interface Specific {
  readonly bitmaps?: readonly { readonly name: string }[];
}

/** Sets the flag of a bitmap that was not stored, wherever its entry stands. Spec: qcow2.txt, "Bitmap directory" */
async function markInUse(path: string, name: string): Promise<void> {
  const bytes = await readFile(path);
  for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at + 1)) {
    const flags = at - 24 + 15;
    bytes.writeUInt8(bytes.readUInt8(flags) | 1, flags);
  }
  await writeFile(path, bytes);
}

/** The images that both have: a chain of two, and some to open. */
async function makeImages(folder: string): Promise<void> {
  await mkdir(folder);
  await qemuImg.create(`${folder}/a.qcow2`, '1M');
  await qemuImg.create(`${folder}/n.qcow2`, undefined, {
    backing: { name: `${folder}/a.qcow2`, format: 'qcow2' },
  });
  await qemuImg.create(`${folder}/t.qcow2`, '1M');
  await qemuImg.ok('bitmap', '--add', `${folder}/t.qcow2`, 'kept');
  await qemuImg.ok('bitmap', '--disable', `${folder}/t.qcow2`, 'kept');
  await qemuImg.create(`${folder}/t.raw`, '1M', { format: 'raw' });
  await qemuImg.create(`${folder}/o.qcow2`, undefined, {
    backing: { name: `${folder}/t.raw`, format: 'raw' },
  });
  await qemuImg.create(`${folder}/i.qcow2`, '1M');
  await qemuImg.ok('bitmap', '--add', '--disable', `${folder}/i.qcow2`, 'good');
  await qemuImg.ok('bitmap', '--add', `${folder}/i.qcow2`, 'bad');
  await markInUse(`${folder}/i.qcow2`, 'bad');
  await qemuImg.create(`${folder}/v2.qcow2`, '1M', { options: { compat: '0.10' } });
}

test('commands have the replies and the events of the real daemon, one after the other', tools, async () => {
  await using folder = await temporaryFolder();
  const [theirs, ours] = [folder.file('theirs'), folder.file('ours')];
  for (const each of [theirs, ours]) await makeImages(each);
  await using daemon = await storageDaemon(theirs, {
    blockdevs: [qcow2Blockdev('n', `${theirs}/n.qcow2`, { discard: 'unmap' })],
    exports: [{ id: 'n', 'node-name': 'n', writable: true }],
  });
  const [socket, path] = [`${ours}/nbd`, `${ours}/qmp`];
  await using server = await imgServe(socket, ['--control', path, `n=${ours}/n.qcow2`]);
  await using qmp = await connectQmp({ path });
  const peers: readonly Peer[] = [
    { qmp: daemon.qmp, folder: theirs, socket: daemon.socket },
    { qmp, folder: ours, socket },
  ];
  try {
    for (const each of steps) {
      const [expected, actual] = await Promise.all(peers.map((peer) => outcome(each, peer)));
      assert.deepEqual(actual, expected);
    }
  } finally {
    for (const connection of held) await connection[Symbol.asyncDispose]();
  }
  const ended = await new Promise((resolve) => server.process.once('close', resolve));
  assert.equal(ended, 0);
  // What was made lasts, and is alike.
  for (const name of ['n', 't', 'o']) {
    const listed = await Promise.all(
      [theirs, ours].map(async (each) => {
        const told = await qemuImg.ok('info', '--output=json', `${each}/${name}.qcow2`);
        const { data } = (JSON.parse(told) as { 'format-specific': { data: Specific } })['format-specific'];
        return { ...data, bitmaps: data.bitmaps?.toSorted((a, b) => (a.name < b.name ? -1 : 1)) };
      }),
    );
    assert.deepEqual(listed[1], listed[0]);
    const { status, report } = await qemuImg.check(`${ours}/${name}.qcow2`);
    assert.deepEqual([status, report.leaks], [0, undefined]);
    await qemuImg.compare(`${theirs}/${name}.qcow2`, 'qcow2', `${ours}/${name}.qcow2`, 'qcow2');
  }
});
