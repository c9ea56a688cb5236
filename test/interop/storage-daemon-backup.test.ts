/** Backups of disks that a real qemu-storage-daemon has open and a guest writes. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import {
  qcow2Blockdev,
  qemuImg,
  qemuIo,
  randomFrom,
  requires,
  type StorageDaemon,
  storageDaemon,
  type TemporaryFolder,
  temporaryFolder,
} from '@strata/testkit';
import { img } from '../img.ts';
import { backupStory, guestWrites, uriOf } from './backup-story.ts';
import { movingGuest } from './moving-guest.ts';

const tools = requires('qemu-storage-daemon', 'qemu-img', 'qemu-io');
const MiB = 1 << 20;

/** A daemon with two disks of different clusters, exported for writing. */
async function daemonWithDisks(folder: TemporaryFolder): Promise<StorageDaemon> {
  const nodes = ['disk', 'fine'];
  for (const name of nodes) {
    const options = name === 'fine' ? ['-o', 'cluster_size=4k'] : [];
    await qemuImg.ok('create', '-q', '-f', 'qcow2', ...options, folder.file(`${name}.qcow2`), '24M');
  }
  return await storageDaemon(folder.path, {
    blockdevs: nodes.map((name) => qcow2Blockdev(name, folder.file(`${name}.qcow2`), { discard: 'unmap' })),
    exports: nodes.map((name) => ({ id: name, 'node-name': name, name, writable: true })),
  });
}

test(
  'a full backup and three incremental ones while a guest writes: each restores as it was',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    await using daemon = await daemonWithDisks(folder);
    const server = { control: daemon.control, socket: daemon.socket };
    const nodes = ['disk', 'fine'].map((name) => ({ name, size: 24 * MiB }));
    await backupStory(server, nodes, folder);
    const jobs = await daemon.qmp.execute('query-jobs');
    assert.deepEqual(jobs, [], 'nothing is left running');
    assert.equal(await daemon.stop(), 0);
    for (const { name } of nodes) assert.equal((await qemuImg.check(folder.file(`${name}.qcow2`))).status, 0);
  },
);

test(
  'the same while fio writes all the time: each state is of one moment',
  requires('qemu-storage-daemon', 'qemu-img', 'fio'),
  async () => {
    await using folder = await temporaryFolder();
    await using daemon = await daemonWithDisks(folder);
    const server = { control: daemon.control, socket: daemon.socket };
    await using guest = await movingGuest(uriOf(daemon.socket, 'disk'), 24 * MiB);
    await using other = await movingGuest(uriOf(daemon.socket, 'fine'), 24 * MiB);
    const nodes = ['disk', 'fine'].map((name) => ({ name, size: 24 * MiB }));
    await backupStory(server, nodes, folder, [guest, other]);
  },
);

test('a checkpoint whose backup failed costs nothing: the next backup has its changes', tools, async () => {
  await using folder = await temporaryFolder();
  await using daemon = await daemonWithDisks(folder);
  const steer = ['--control', daemon.control, '--scratch', folder.path];
  const random = randomFrom(5);
  const uri = uriOf(daemon.socket, 'disk');
  const backups = folder.file('backups');
  const write = () => qemuIo(uri, guestWrites(random, 24 * MiB, 10), 'raw');
  const take = async (...words: readonly string[]) =>
    await img.run(
      'backup',
      '--control',
      daemon.control,
      ...words,
      uriOf(daemon.socket, 'backup-disk'),
      backups,
    );
  await write();
  await img.ok('checkpoint', 'create', '-q', ...steer, 'disk');
  assert.equal((await take()).status, 0);
  await write();
  await img.ok('checkpoint', 'create', '-q', ...steer, 'disk');
  // Nobody takes this one, and what held the disk still is given up.
  await img.ok('checkpoint', 'release', ...steer, 'disk');
  assert.deepEqual(await daemon.qmp.execute('query-jobs'), []);
  assert.match((await take()).stderr, /export 'backup-disk' not present/);
  await write();
  await qemuImg.ok('convert', '-f', 'raw', '-O', 'raw', uri, folder.file('expected'));
  await img.ok('checkpoint', 'create', '-q', ...steer, 'disk');
  await write();
  const done = await take();
  assert.deepEqual([done.status, done.stderr], [0, '']);
  await img.ok('checkpoint', 'done', '-q', ...steer, 'disk');
  await img.ok('restore', '-q', backups, folder.file('back'));
  await qemuImg.compare(folder.file('back'), 'raw', folder.file('expected'), 'raw');
  const listed = JSON.parse(
    await img.ok('checkpoint', 'list', '--output=json', '--control', daemon.control, 'disk'),
  );
  assert.equal(listed.length, 1);
  assert.deepEqual(
    readdirSync(folder.path).filter((name) => name.startsWith('strata-')),
    [],
  );
});

test('a disk that is held still no longer makes no backup', tools, async () => {
  await using folder = await temporaryFolder();
  await using daemon = await daemonWithDisks(folder);
  const steer = ['--control', daemon.control, '--scratch', folder.path];
  await qemuIo(uriOf(daemon.socket, 'disk'), ['write -P 1 0 4M'], 'raw');
  const [made] = JSON.parse(await img.ok('checkpoint', 'create', '--output=json', ...steer, 'disk'));
  const id = `strata-${String(made.checkpoint).split('.').at(-1)}`;
  assert.ok(existsSync(folder.file(`${id}.qcow2`)));
  await daemon.qmp.execute('block-job-cancel', { device: id });
  await daemon.qmp.event('JOB_STATUS_CHANGE', ({ status }) => status === 'null');
  const uri = uriOf(daemon.socket, 'backup-disk');
  const refused = await img.run('backup', '--control', daemon.control, uri, folder.file('backups'));
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /does not hold the disk at its checkpoint any more/);
  assert.match(await img.ok('backup', '--list', folder.file('backups')), /^NUMBER[^\n]*\n$/);
});

test('a transaction that the server refuses leaves no checkpoint and nothing running', tools, async () => {
  await using folder = await temporaryFolder();
  await using daemon = await daemonWithDisks(folder);
  const steer = ['--control', daemon.control, '--scratch', folder.path];
  await img.ok('checkpoint', 'create', '-q', '--control', daemon.control, 'disk', 'fine');
  const list = () => img.ok('checkpoint', 'list', '--control', daemon.control, 'disk', 'fine');
  const before = await list();
  // A bitmap that somebody exports is busy and cannot be frozen.
  const busy = before
    .split('\n')
    .find((line) => line.endsWith('fine'))
    ?.split(' ')[0];
  const shown = { type: 'nbd', id: 'x', 'node-name': 'fine', name: 'x', writable: true, bitmaps: [busy] };
  await daemon.qmp.execute('block-export-add', shown);
  const refused = await img.run('checkpoint', 'create', ...steer, 'disk', 'fine');
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /^img: The server refused 'transaction': Bitmap .* is currently in use/);
  assert.equal(await list(), before);
  assert.deepEqual(await daemon.qmp.execute('query-jobs'), []);
  const missing = await img.run('checkpoint', 'create', ...steer, 'disk', 'none');
  assert.match(missing.stderr, /^img: Could not create a checkpoint: the server has no node 'none'\n$/);
  assert.equal(await list(), before);
  const nobody = await img.run('checkpoint', 'create', '--control', folder.file('nobody'), 'disk');
  assert.match(nobody.stderr, /^img: Could not connect to '.*nobody': No such file or directory\n$/);
});
