import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { nbdinfo, qemuImg, qemuNbd, requires, run, runOk, temporaryFolder } from '@strata/testkit';
import { img, imgServe } from '../img.ts';
import { chainOfFour } from './chain-of-four.ts';

test(
  'nbdinfo sees the same extents and depths of a chain of four on our server as on qemu-nbd',
  requires('qemu-img', 'qemu-nbd', 'nbdinfo'),
  async () => {
    await using folder = await temporaryFolder();
    const top = await chainOfFour(folder);
    const socket = folder.file('qemu.sock');
    await using _qemu = await qemuNbd(top, socket, ['-f', 'qcow2', '-r', '-A']);
    await using ours = await imgServe(folder.file('ours.sock'), ['-f', 'qcow2', '-r', top]);
    for (const context of ['base:allocation', 'qemu:allocation-depth']) {
      const theirs = await nbdinfo.map(`nbd+unix:///?socket=${socket}`, context);
      assert.ok(theirs.length > 10);
      assert.deepEqual(await nbdinfo.map(ours.uri, context), theirs, context);
    }
  },
);

test(
  'img map tells the same of a chain of four as qemu-img, from the file and over the wire',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const top = await chainOfFour(folder);
    assert.equal(await img.ok('map', '-f', 'qcow2', '--output=json', top), await qemuImg.mapText(top));
    await using ours = await imgServe(folder.file('ours.sock'), ['-f', 'qcow2', '-r', top]);
    interface Entry {
      readonly start: number;
      readonly length: number;
      readonly depth: number;
      readonly zero: boolean;
    }
    const wire = JSON.parse(await img.ok('map', '--output=json', ours.uri)) as readonly Entry[];
    const depths = await nbdinfo.map(ours.uri, 'qemu:allocation-depth');
    for (const { offset, length, type } of depths) {
      for (const entry of wire.filter(
        (one) => one.start < offset + length && one.start + one.length > offset,
      )) {
        if (type > 0) assert.equal(entry.depth, type - 1, `depth at ${offset}`);
        else assert.ok(entry.zero, `nobody's bytes at ${offset} are zeros`);
      }
    }
  },
);

test(
  'nbdinfo describes the exports of one server, and its list names them all',
  requires('qemu-img', 'nbdinfo'),
  async () => {
    await using folder = await temporaryFolder();
    await qemuImg.create(folder.file('a.qcow2'), '4M');
    await qemuImg.create(folder.file('b.qcow2'), '8M');
    await using ours = await imgServe(folder.file('s'), [
      '-f',
      'qcow2',
      folder.file('a.qcow2'),
      folder.file('b.qcow2'),
    ]);
    interface Listed {
      readonly exports: readonly {
        readonly 'export-name': string;
        readonly 'export-size': number;
        readonly contexts: readonly string[];
        readonly can_multi_conn: boolean;
      }[];
    }
    const listed = (await nbdinfo.json(
      `nbd+unix:///?socket=${folder.file('s')}`,
      '--list',
    )) as unknown as Listed;
    const sizes = Object.fromEntries(listed.exports.map((one) => [one['export-name'], one['export-size']]));
    assert.deepEqual(sizes, { 'a.qcow2': 4 * 2 ** 20, 'b.qcow2': 8 * 2 ** 20 });
    for (const one of listed.exports) {
      assert.deepEqual(one.contexts, ['base:allocation', 'qemu:allocation-depth']);
      assert.equal(one.can_multi_conn, true);
    }
    assert.equal(await ours.stop(), 0);
  },
);

test(
  'nbdcopy with four connections, qemu-img and qemu-io all read and write through our server',
  requires('nbdcopy', 'qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    const source = folder.file('source.raw');
    const content = Buffer.alloc(24 * 2 ** 20, 'strata');
    content.fill(0, 5_000_000, 9_000_000);
    await writeFile(source, content);
    const image = folder.file('image.qcow2');
    await qemuImg.create(image, content.length);
    {
      await using ours = await imgServe(folder.file('s'), ['-f', 'qcow2', image]);
      await runOk('nbdcopy', ['--connections=4', source, ours.uri]);
      await runOk('nbdcopy', ['--connections=4', ours.uri, folder.file('out.raw')]);
      await qemuImg.compare(source, 'raw', folder.file('out.raw'), 'raw');
      const { status, stdout } = await run('qemu-io', [
        '-f',
        'raw',
        '-c',
        'write -P 66 1M 3M',
        '-c',
        'read -P 66 1M 3M',
        '-c',
        'write -z 2M 64k',
        '-c',
        'read -P 0 2M 64k',
        '-c',
        'discard 3M 64k',
        '-c',
        'flush',
        ours.uri,
      ]);
      assert.equal(status, 0, stdout);
      await qemuImg.ok('convert', '-f', 'raw', '-O', 'raw', ours.uri, folder.file('converted.raw'));
      await qemuImg.ok('convert', '-n', '-f', 'raw', '-O', 'raw', source, ours.uri);
      assert.equal(await ours.stop(), 0);
    }
    assert.equal((await qemuImg.check(image)).status, 0);
    await qemuImg.compare(source, 'raw', image, 'qcow2');
  },
);

test('fio finds what it wrote at random through our server', requires('fio', 'qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('image.qcow2');
  await qemuImg.create(image, '64M', { options: { cluster_size: 16_384 } });
  {
    await using ours = await imgServe(folder.file('s'), ['-f', 'qcow2', image]);
    const args = [
      '--name=verify',
      '--ioengine=nbd',
      `--uri=${ours.uri}`,
      '--rw=randwrite',
      '--bsrange=512-128k',
      '--iodepth=16',
    ];
    await runOk(
      'fio',
      [
        ...args,
        '--size=64M',
        '--io_size=96M',
        '--verify=crc32c',
        '--verify_fatal=1',
        '--randseed=7',
        '--fsync=64',
      ],
      { cwd: folder.path },
    );
  }
  assert.equal((await qemuImg.check(image)).status, 0);
});
