/** Dirty bitmaps over NBD: ours and QEMU's servers say the same of the same images, and both record. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nbdinfo, qemuImg, qemuIo, qemuNbd, requires, temporaryFolder } from '@strata/testkit';
import { img, imgServe } from '../img.ts';

const tools = requires('qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo');
const uriOf = (socket: string) => `nbd+unix:///?socket=${socket}`;

test(
  'nbdinfo sees the same runs of every bitmap of a chain on our server as on qemu-nbd',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const base = folder.file('base.qcow2');
    const top = folder.file('top.qcow2');
    await qemuImg.create(base, '16M');
    await qemuImg.ok('bitmap', '--add', '-g', '4k', base, 'below');
    await qemuIo(base, ['write 1M 300k', 'write 9M 4k']);
    await qemuImg.create(top, '16M', { backing: { name: base, format: 'qcow2' } });
    await qemuImg.ok('bitmap', '--add', top, 'one');
    await qemuIo(top, ['write -z 3M 100k', 'discard 12M 1M']);
    await qemuImg.ok('bitmap', '--disable', top, 'one');
    await qemuImg.ok('bitmap', '--add', '-g', '512', top, 'two');
    await qemuIo(top, ['write 5000 5', 'write 16777000 216']);
    const names = ['below', 'one', 'two'];
    const given = names.flatMap((name) => ['-B', name]);
    await using _theirs = await qemuNbd(top, folder.file('theirs'), ['-f', 'qcow2', '-r', ...given]);
    for (const choice of [given, ['--all-bitmaps']]) {
      await using ours = await imgServe(folder.file('ours'), ['-f', 'qcow2', '-r', ...choice, top]);
      for (const name of names) {
        const context = `qemu:dirty-bitmap:${name}`;
        const expected = await nbdinfo.map(uriOf(folder.file('theirs')), context);
        assert.ok(expected.length > 1);
        assert.deepEqual(await nbdinfo.map(ours.uri, context), expected, name);
      }
    }
  },
);

test('a served image records what clients write, shows it live, and keeps it for QEMU', tools, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.qcow2');
  await qemuImg.create(path, '16M');
  await img.ok('bitmap', '--add', path, 'b0');
  const context = 'qemu:dirty-bitmap:b0';
  const expected = [
    { offset: 0, length: 65_536, type: 0, description: 'clean' },
    { offset: 65_536, length: 131_072, type: 1, description: 'dirty' },
    { offset: 196_608, length: 16 * 2 ** 20 - 196_608, type: 0, description: 'clean' },
  ];
  {
    await using ours = await imgServe(folder.file('s'), ['-f', 'qcow2', '-B', 'b0', path]);
    await qemuIo(ours.uri, ['write -P 1 70000 100000'], 'raw');
    assert.deepEqual(await nbdinfo.map(ours.uri, context), expected);
  }
  await using _theirs = await qemuNbd(path, folder.file('t'), ['-f', 'qcow2', '-r', '-B', 'b0']);
  assert.deepEqual(await nbdinfo.map(uriOf(folder.file('t')), context), expected);
});

test('a server that is killed leaves a bitmap that nobody believes', tools, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.qcow2');
  await qemuImg.create(path, '16M');
  await img.ok('bitmap', '--add', path, 'b0');
  const ours = await imgServe(folder.file('s'), ['-f', 'qcow2', '-B', 'b0', path]);
  await qemuIo(ours.uri, ['write -P 1 70000 100000'], 'raw');
  ours.process.kill('SIGKILL');
  await ours.stop();
  const info = JSON.parse(await qemuImg.ok('info', '--output=json', path)) as {
    readonly 'format-specific': {
      readonly data: { readonly bitmaps: readonly { readonly flags: readonly string[] }[] };
    };
  };
  assert.deepEqual(info['format-specific'].data.bitmaps[0]?.flags, ['in-use', 'auto']);
  const { status, stderr } = await img.run(
    'serve',
    '-f',
    'qcow2',
    '-r',
    '-k',
    folder.file('u'),
    '-B',
    'b0',
    path,
  );
  assert.equal(status, 1);
  assert.match(stderr, /^img: Bitmap 'b0' is inconsistent and cannot be used\n/);
});

test('a bitmap that no image of the chain has is refused', tools, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.qcow2');
  await qemuImg.create(path, '1M');
  const { status, stderr } = await img.run('serve', '-f', 'qcow2', '-k', folder.file('u'), '-B', 'no', path);
  assert.deepEqual([status, stderr], [1, "img: Bitmap 'no' is not found\n"]);
});
