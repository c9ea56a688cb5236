/** qemu-storage-daemon at the other end: our client on its exports, and our server under its block devices. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  nbdinfo,
  qcow2Blockdev,
  qemuImg,
  qemuIo,
  requires,
  runOk,
  type StorageDaemon,
  storageDaemon,
  temporaryFolder,
} from '@strata/testkit';
import { img, imgServe } from '../img.ts';
import { chainOfFour } from './chain-of-four.ts';

const tools = requires('qemu-storage-daemon', 'qemu-img', 'qemu-io', 'nbdinfo', 'nbdcopy');

const allExports = (daemon: StorageDaemon) => `nbd+unix:///?socket=${daemon.socket}`;

/** A raw image of the daemon's. */
const rawBlockdev = (node: string, filename: string): object => ({
  driver: 'raw',
  'node-name': node,
  file: { driver: 'file', filename },
});

/** An export of our server as a block device of the daemon. */
const nbdBlockdev = (node: string, path: string, exportName: string, more: object = {}): object => ({
  driver: 'nbd',
  'node-name': node,
  server: { type: 'unix', path },
  export: exportName,
  ...more,
});

test("img lists the daemon's exports, with what nbdinfo finds in them", tools, async () => {
  await using folder = await temporaryFolder();
  const top = await chainOfFour(folder);
  const blank = folder.file('blank.raw');
  await qemuImg.create(blank, '3M', { format: 'raw' });
  await using daemon = await storageDaemon(folder.path, {
    blockdevs: [qcow2Blockdev('chain', top), rawBlockdev('blank', blank)],
    exports: [
      {
        id: 'a',
        'node-name': 'chain',
        name: 'disk ü',
        description: 'four layers',
        'allocation-depth': true,
      },
      { id: 'b', 'node-name': 'blank', writable: true },
    ],
  });
  const listed = JSON.parse(await img.ok('info', '--list', '--output=json', allExports(daemon))) as {
    readonly exports: readonly Record<string, unknown>[];
  };
  const theirs = await nbdinfo.json(allExports(daemon), '--list', '--no-content');
  assert.deepEqual({ ...listed }, { ...theirs });
  assert.deepEqual(
    listed.exports.map((each) => each['export-name']),
    ['disk ü', 'blank'],
  );
});

test('every verb of img reads and writes what the daemon exports', tools, async () => {
  await using folder = await temporaryFolder();
  const top = await chainOfFour(folder);
  await qemuImg.ok('bitmap', '--add', '-g', '4k', top, 'fine');
  await qemuImg.ok('bitmap', '--add', folder.file('1'), 'deep');
  await qemuIo(top, ['write -P 11 700k 5k', 'write -z 5M 300k', 'discard 9M 64k']);
  await qemuIo(folder.file('1'), ['write -P 12 1M 12k']);
  const blank = folder.file('blank.raw');
  await qemuImg.create(blank, '10M', { format: 'raw' });
  const copy = folder.file('copy.qcow2');
  {
    await using daemon = await storageDaemon(folder.path, {
      blockdevs: [qcow2Blockdev('chain', top, { 'read-only': true }), rawBlockdev('blank', blank)],
      exports: [
        { id: 'a', 'node-name': 'chain', 'allocation-depth': true, bitmaps: ['fine', 'deep'] },
        { id: 'b', 'node-name': 'blank', writable: true },
      ],
    });
    const chain = daemon.uri('chain');
    const disk = daemon.uri('blank');
    for (const name of ['base:allocation', 'qemu:allocation-depth', 'fine', 'deep']) {
      const context = name.includes(':') ? name : `qemu:dirty-bitmap:${name}`;
      const theirs = await nbdinfo.map(chain, context);
      assert.ok(theirs.length > 2, context);
      assert.deepEqual(JSON.parse(await img.ok('map', '--context', context, '--output=json', chain)), theirs);
    }
    assert.match(await img.ok('info', chain), /virtual size: 10 MiB/);
    await img.ok('convert', '-O', 'qcow2', chain, copy);
    assert.match(await img.ok('compare', '-F', 'qcow2', chain, copy), /identical/);
    await img.ok('convert', '-n', '-f', 'qcow2', '-O', 'raw', copy, disk);
    assert.match(await img.ok('compare', chain, disk), /identical/);
    const refused = await img.run('convert', '-n', '-f', 'qcow2', '-O', 'raw', copy, chain);
    assert.deepEqual([refused.status, /Permission denied/.test(refused.stderr)], [1, true]);
    const missing = await img.run('info', daemon.uri('none'));
    assert.deepEqual([missing.status, /export 'none' not present/.test(missing.stderr)], [1, true]);
    assert.equal(await daemon.stop(), 0);
  }
  await qemuImg.compare(blank, 'raw', top, 'qcow2');
});

/** Writes of every sort, the last of them durable; what was discarded is written again, since it may read as anything. */
const guestWrites = [
  'write -P 1 0 64k',
  'write -P 2 100000 5000',
  'write -z -u 1M 1M',
  'write -z 2100000 70000',
  'discard 3M 1M',
  'write -P 7 3000k 2000k',
  'write -f -P 3 5M 4k',
  'aio_write -P 4 6M 1M',
  'aio_write -P 5 7M 1M',
  'aio_flush',
  'write -P 6 9437000 1000',
  'flush',
];

test('the daemon serves on what it has from our server, as it was and as it is written', tools, async () => {
  await using folder = await temporaryFolder();
  const top = await chainOfFour(folder);
  const expected = folder.file('expected.raw');
  await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', top, expected);
  const socket = folder.file('ours');
  {
    await using ours = await imgServe(socket, ['-f', 'qcow2', `disk=${top}`]);
    await using daemon = await storageDaemon(folder.path, {
      blockdevs: [nbdBlockdev('ours', socket, 'disk', { discard: 'unmap' })],
      exports: [{ id: 'a', 'node-name': 'ours', name: 'through', writable: true }],
    });
    const through = daemon.uri('through');
    assert.deepEqual(await nbdinfo.map(through), await nbdinfo.map(ours.uri.split('\n')[0] as string));
    await qemuImg.compare(through, 'raw', expected, 'raw');
    await qemuIo(through, guestWrites, 'raw');
    await qemuIo(expected, guestWrites, 'raw');
    await runOk('nbdcopy', [through, folder.file('read.raw')]);
    await qemuImg.compare(folder.file('read.raw'), 'raw', expected, 'raw');
    assert.equal(await daemon.stop(), 0);
  }
  await qemuImg.compare(top, 'qcow2', expected, 'raw');
  assert.equal((await qemuImg.check(top)).status, 0);
});

test('an image that the daemon keeps on our server is whole when both have ended', tools, async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  const expected = folder.file('expected.raw');
  await qemuImg.create(image, '10M');
  await runOk('truncate', ['-s', '32M', image]);
  await qemuImg.create(expected, '10M', { format: 'raw' });
  const socket = folder.file('ours');
  {
    await using _ours = await imgServe(socket, ['-f', 'raw', `file=${image}`]);
    await using daemon = await storageDaemon(folder.path, {
      blockdevs: [{ driver: 'qcow2', 'node-name': 'disk', file: nbdBlockdev('ours', socket, 'file') }],
      exports: [{ id: 'a', 'node-name': 'disk', writable: true }],
    });
    await daemon.qmp.execute('block-dirty-bitmap-add', { node: 'disk', name: 'b', persistent: true });
    await qemuIo(daemon.uri('disk'), guestWrites, 'raw');
    await qemuIo(expected, guestWrites, 'raw');
    assert.equal(await daemon.stop(), 0);
  }
  await qemuImg.compare(image, 'qcow2', expected, 'raw');
  assert.match(await img.ok('compare', '-f', 'qcow2', '-F', 'raw', image, expected), /identical/);
  assert.equal((await img.run('check', image)).status, 0);
  assert.match(await img.ok('bitmap', '--list', image), /^b /m);
});

test('the daemon commits a layer live into a disk on our server', tools, async () => {
  await using folder = await temporaryFolder();
  const base = folder.file('base.qcow2');
  const over = folder.file('over.qcow2');
  const expected = folder.file('expected.raw');
  await qemuImg.create(base, '10M');
  await qemuIo(base, ['write -P 20 0 3M', 'write -P 21 8M 1M']);
  await qemuImg.create(over, '10M');
  await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', base, expected);
  const socket = folder.file('ours');
  {
    await using _ours = await imgServe(socket, ['-f', 'qcow2', `base=${base}`]);
    await using daemon = await storageDaemon(folder.path, {
      blockdevs: [nbdBlockdev('below', socket, 'base'), qcow2Blockdev('disk', over, { backing: 'below' })],
      exports: [{ id: 'a', 'node-name': 'disk', writable: true }],
    });
    await qemuIo(daemon.uri('disk'), guestWrites, 'raw');
    await qemuIo(expected, guestWrites, 'raw');
    await daemon.qmp.execute('block-commit', { 'job-id': 'j', device: 'disk' });
    await daemon.qmp.event('BLOCK_JOB_READY');
    await qemuIo(daemon.uri('disk'), ['write -P 22 2M 100k'], 'raw');
    await qemuIo(expected, ['write -P 22 2M 100k'], 'raw');
    await daemon.qmp.execute('block-job-complete', { device: 'j' });
    const { data } = await daemon.qmp.event('BLOCK_JOB_COMPLETED');
    assert.deepEqual([data?.['error'], data?.['type']], [undefined, 'commit']);
    assert.equal(await daemon.stop(), 0);
  }
  assert.match(await img.ok('compare', '-f', 'qcow2', '-F', 'raw', base, expected), /identical/);
  await qemuImg.compare(base, 'qcow2', expected, 'raw');
  assert.equal((await qemuImg.check(base)).status, 0);
});
