/** Dirty bitmaps that qemu-storage-daemon makes and we read, and that we make and it reads; both record in them. */
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { test } from 'node:test';
import type { QmpClient } from '@strata/qmp';
import {
  type NbdExtent,
  nbdinfo,
  qcow2Blockdev,
  qemuImg,
  qemuIo,
  requires,
  storageDaemon,
  temporaryFolder,
} from '@strata/testkit';
import { img, imgServe } from '../img.ts';

const tools = requires('qemu-storage-daemon', 'qemu-img', 'qemu-io', 'nbdinfo');

/** A bitmap as QMP and `img bitmap --list --output=json` tell of it. */
interface Told {
  readonly name: string;
  readonly recording: boolean;
  readonly persistent: boolean;
  readonly granularity: number;
  readonly count: number;
}

const byName = (a: Told, b: Told): number => (a.name < b.name ? -1 : 1);

/** What the daemon says of a node's bitmaps; `busy` is of the moment and not of the bitmap. */
async function bitmapsOf(qmp: QmpClient, node: string): Promise<readonly Told[]> {
  const nodes = await qmp.execute<
    readonly { 'node-name': string; 'dirty-bitmaps'?: readonly (Told & { busy: boolean })[] }[]
  >('query-named-block-nodes', { flat: true });
  const found = nodes.find((each) => each['node-name'] === node)?.['dirty-bitmaps'] ?? [];
  return found.map(({ busy: _, ...told }) => told).sort(byName);
}

const listed = async (path: string): Promise<readonly Told[]> =>
  (JSON.parse(await img.ok('bitmap', '--list', '--output=json', path)) as Told[]).sort(byName);

async function sums(qmp: QmpClient, node: string, names: readonly string[]): Promise<readonly string[]> {
  const found: string[] = [];
  for (const name of names) {
    const { sha256 } = await qmp.execute<{ sha256: string }>('x-debug-block-dirty-bitmap-sha256', {
      node,
      name,
    });
    found.push(sha256);
  }
  return found;
}

/** A bitmap that both sides make; what is not given is the default. */
interface Made {
  readonly name: string;
  readonly granularity?: number;
  readonly disabled?: true;
}

const made: readonly Made[] = [
  { name: 'plain' },
  { name: 'finest', granularity: 512 },
  { name: 'coarse', granularity: 2 ** 20 },
  { name: 'off', disabled: true },
];

const names = made.map(({ name }) => name);
const writes = [
  'write -P 1 100000 70000',
  'write -z 1M 100k',
  'write -z -u 3000k 100k',
  'discard 5M 300k',
  'write -P 2 16776000 1000',
  'aio_write -P 3 9M 1M',
  'aio_flush',
];
const laterWrites = ['write -P 4 7M 100', 'discard 12M 64k', 'flush'];
const size = '16M';

const addByQmp = async (qmp: QmpClient, node: string): Promise<void> => {
  for (const each of made) await qmp.execute('block-dirty-bitmap-add', { node, persistent: true, ...each });
};

const addByImg = async (path: string): Promise<void> => {
  for (const { name, granularity, disabled } of made) {
    const more = granularity === undefined ? [] : ['-g', `${granularity}`];
    await img.ok('bitmap', '--add', ...(disabled ? ['--disable'] : []), ...more, path, name);
  }
};

const contextsOf = async (uri: string): Promise<readonly (readonly NbdExtent[])[]> => {
  const maps: (readonly NbdExtent[])[] = [];
  for (const name of names) maps.push(await nbdinfo.map(uri, `qemu:dirty-bitmap:${name}`));
  return maps;
};

test('bitmaps that the daemon made and filled are listed, counted and served as it did', tools, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.qcow2');
  await qemuImg.create(path, size);
  await using daemon = await storageDaemon(folder.path, {
    blockdevs: [qcow2Blockdev('disk', path, { discard: 'unmap' })],
    exports: [{ id: 'w', 'node-name': 'disk', writable: true }],
  });
  await addByQmp(daemon.qmp, 'disk');
  await qemuIo(daemon.uri('disk'), writes, 'raw');
  const seen = { type: 'nbd', id: 'r', name: 'seen', 'node-name': 'disk', writable: true, bitmaps: names };
  await daemon.qmp.execute('block-export-add', seen);
  const told = await bitmapsOf(daemon.qmp, 'disk');
  const maps = await contextsOf(daemon.uri('seen'));
  assert.equal(await daemon.stop(), 0);
  assert.deepEqual(
    told.map(({ count }) => count > 0),
    [true, true, false, true],
  );
  assert.deepEqual(await listed(path), told);
  await using ours = await imgServe(folder.file('ours'), ['-f', 'qcow2', '-r', '--all-bitmaps', path]);
  assert.deepEqual(await contextsOf(ours.uri), maps);
});

test(
  'bitmaps that we made and filled load in the daemon as its own would, and record there',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const ours = folder.file('ours.qcow2');
    const theirs = folder.file('theirs.qcow2');
    await qemuImg.create(theirs, size);
    await img.ok('create', '-q', '-f', 'qcow2', ours, size);
    await addByImg(ours);
    const options = {
      blockdevs: [qcow2Blockdev('theirs', theirs, { discard: 'unmap' })],
      exports: [{ id: 't', 'node-name': 'theirs', writable: true }],
    };
    let maps: readonly (readonly NbdExtent[])[];
    {
      await using server = await imgServe(folder.file('s'), ['-f', 'qcow2', '--all-bitmaps', ours]);
      await qemuIo(server.uri, writes, 'raw');
      maps = await contextsOf(server.uri);
      await using daemon = await storageDaemon(folder.path, options, 'first');
      await addByQmp(daemon.qmp, 'theirs');
      await qemuIo(daemon.uri('theirs'), writes, 'raw');
      assert.equal(await daemon.stop(), 0);
    }
    await using daemon = await storageDaemon(folder.path, {
      blockdevs: [...options.blockdevs, qcow2Blockdev('ours', ours, { discard: 'unmap' })],
      exports: [
        ...options.exports,
        { id: 'o', 'node-name': 'ours', writable: true },
        { id: 's', 'node-name': 'ours', name: 'seen', writable: true, bitmaps: names },
      ],
    });
    const { qmp } = daemon;
    assert.deepEqual(await contextsOf(daemon.uri('seen')), maps);
    assert.deepEqual(await bitmapsOf(qmp, 'ours'), await bitmapsOf(qmp, 'theirs'));
    assert.deepEqual(await sums(qmp, 'ours', names), await sums(qmp, 'theirs', names));
    for (const name of ['ours', 'theirs']) await qemuIo(daemon.uri(name), laterWrites, 'raw');
    const told = await bitmapsOf(qmp, 'ours');
    assert.deepEqual(told, await bitmapsOf(qmp, 'theirs'));
    assert.deepEqual(await sums(qmp, 'ours', names), await sums(qmp, 'theirs', names));
    assert.equal(await daemon.stop(), 0);
    assert.deepEqual(await listed(ours), told);
    await qemuImg.compare(ours, 'qcow2', theirs, 'qcow2');
    assert.equal((await img.run('check', ours)).status, 0);
  },
);

test('img merges bitmaps into what QMP merges them into', tools, async () => {
  await using folder = await temporaryFolder();
  const [first, other, copy] = ['first', 'other', 'copy'].map((name) => folder.file(name)) as [
    string,
    string,
    string,
  ];
  for (const [path, at] of [
    [first, 2],
    [other, 11],
  ] as const) {
    await qemuImg.create(path, size);
    await addByImg(path);
    await qemuIo(path, [...writes, `write ${at}M 3k`, `write -z ${at}500k 200k`]);
  }
  await copyFile(first, copy);
  const merges = [
    { target: 'off', source: 'finest' },
    { target: 'finest', source: 'coarse' },
    { target: 'coarse', source: 'plain', from: 'other' },
    { target: 'plain', source: 'finest', from: 'other' },
  ];
  for (const { target, source, from } of merges) {
    const elsewhere = from === undefined ? [] : ['-b', other, '-F', 'qcow2'];
    await img.ok('bitmap', '--merge', source, ...elsewhere, first, target);
  }
  await using daemon = await storageDaemon(folder.path, {
    blockdevs: ['first', 'other', 'copy'].map((name) => qcow2Blockdev(name, folder.file(name))),
  });
  const { qmp } = daemon;
  for (const { target, source, from } of merges) {
    const bitmap = from === undefined ? source : { node: from, name: source };
    await qmp.execute('block-dirty-bitmap-merge', { node: 'copy', target, bitmaps: [bitmap] });
  }
  assert.deepEqual(await bitmapsOf(qmp, 'first'), await bitmapsOf(qmp, 'copy'));
  assert.deepEqual(await sums(qmp, 'first', names), await sums(qmp, 'copy', names));
  const told = await bitmapsOf(qmp, 'copy');
  assert.equal(await daemon.stop(), 0);
  for (const path of [first, copy]) assert.deepEqual(await listed(path), told);
});

test('a daemon that was killed leaves bitmaps that we refuse and can remove', tools, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.qcow2');
  await qemuImg.create(path, size);
  await addByImg(path);
  const daemon = await storageDaemon(folder.path, {
    blockdevs: [qcow2Blockdev('disk', path)],
    exports: [{ id: 'w', 'node-name': 'disk', writable: true }],
  });
  await qemuIo(daemon.uri('disk'), writes, 'raw');
  daemon.process.kill('SIGKILL');
  await daemon.stop();
  const refused = await img.run('serve', '-f', 'qcow2', '-k', folder.file('s'), '-B', 'plain', path);
  assert.deepEqual([refused.status, /^img: Bitmap 'plain' is inconsistent/.test(refused.stderr)], [1, true]);
  for (const name of names) await img.ok('bitmap', '--remove', path, name);
  assert.deepEqual(await listed(path), []);
  await addByImg(path);
  await using again = await storageDaemon(
    folder.path,
    { blockdevs: [qcow2Blockdev('disk', path)], exports: [] },
    'again',
  );
  assert.deepEqual(
    (await bitmapsOf(again.qmp, 'disk')).map(({ count }) => count),
    names.map(() => 0),
  );
});

test('snapshots that we take and that the daemon takes open on both sides, with bitmaps', tools, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.qcow2');
  const earlier = folder.file('earlier.raw');
  const later = folder.file('later.raw');
  await img.ok('create', '-q', '-f', 'qcow2', path, size);
  await addByImg(path);
  {
    await using server = await imgServe(folder.file('s'), ['-f', 'qcow2', path]);
    await qemuIo(server.uri, writes, 'raw');
  }
  await img.ok('snapshot', '-c', 'ours', path);
  await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', path, earlier);
  {
    await using daemon = await storageDaemon(folder.path, {
      blockdevs: [qcow2Blockdev('disk', path)],
      exports: [{ id: 'w', 'node-name': 'disk', writable: true }],
    });
    await qemuIo(daemon.uri('disk'), laterWrites, 'raw');
    await daemon.qmp.execute('blockdev-snapshot-internal-sync', { device: 'disk', name: 'theirs' });
    await qemuImg.ok('convert', '-f', 'raw', '-O', 'raw', daemon.uri('disk'), later);
    await qemuIo(daemon.uri('disk'), ['write -P 30 0 2M', 'discard 8M 2M'], 'raw');
    assert.equal(await daemon.stop(), 0);
  }
  for (const [name, expected] of [
    ['ours', earlier],
    ['theirs', later],
  ] as const) {
    const copy = folder.file(`${name}.copy`);
    await img.ok('convert', '-f', 'qcow2', '-l', name, '-O', 'raw', path, copy);
    await qemuImg.compare(copy, 'raw', expected, 'raw');
  }
  assert.equal((await img.run('check', path)).status, 0);
  const before = await listed(path);
  await qemuImg.ok('convert', '-f', 'qcow2', '-O', 'raw', path, later);
  await img.ok('snapshot', '-d', 'ours', path);
  await img.ok('snapshot', '-c', 'again', path);
  await using daemon = await storageDaemon(
    folder.path,
    { blockdevs: [qcow2Blockdev('disk', path)], exports: [{ id: 'w', 'node-name': 'disk' }] },
    'again',
  );
  await qemuImg.compare(daemon.uri('disk'), 'raw', later, 'raw');
  assert.deepEqual(await bitmapsOf(daemon.qmp, 'disk'), before);
  assert.equal(await daemon.stop(), 0);
  assert.equal((await qemuImg.check(path)).status, 0);
});

test("a commit of ours records in the base's bitmaps what one of qemu-img records", tools, async () => {
  await using folder = await temporaryFolder();
  const sides = ['ours', 'theirs'].map((name) => ({
    base: folder.file(`${name}.base`),
    top: folder.file(`${name}.top`),
  }));
  for (const { base, top } of sides) {
    await qemuImg.create(base, size);
    await qemuIo(base, ['write -P 9 4M 6M']);
    await addByImg(base);
    await qemuImg.create(top, size, { backing: { name: base, format: 'qcow2' } });
    await qemuIo(top, writes);
  }
  const [ours, theirs] = sides.map(({ top }) => top) as [string, string];
  await img.ok('commit', '-q', '-f', 'qcow2', ours);
  await qemuImg.ok('commit', '-q', '-f', 'qcow2', theirs);
  const blockdevs = ['ours', 'theirs'].map((name) => qcow2Blockdev(name, folder.file(`${name}.base`)));
  await using daemon = await storageDaemon(folder.path, { blockdevs });
  const { qmp } = daemon;
  const told = await bitmapsOf(qmp, 'ours');
  assert.ok((told.find(({ name }) => name === 'plain')?.count ?? 0) > 0);
  assert.deepEqual(told, await bitmapsOf(qmp, 'theirs'));
  assert.deepEqual(await sums(qmp, 'ours', names), await sums(qmp, 'theirs', names));
});
