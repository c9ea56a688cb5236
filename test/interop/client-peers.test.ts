import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { nbdkit, qemuImg, qemuNbd, requires, temporaryFolder } from '@strata/testkit';
import { img } from '../img.ts';
import { chainOfFour } from './chain-of-four.ts';

test(
  'every verb takes what qemu-nbd serves where it takes a file',
  requires('qemu-img', 'qemu-nbd'),
  async () => {
    await using folder = await temporaryFolder();
    const top = await chainOfFour(folder);
    const socket = folder.file('q');
    const uri = `nbd+unix:///?socket=${socket}`;
    await using _server = await qemuNbd(top, socket, ['-f', 'qcow2', '-r', '-A']);
    assert.match(await img.ok('info', uri), /virtual size: 10 MiB \(10485760 bytes\)/);
    assert.match(await img.ok('compare', '-F', 'qcow2', uri, top), /Images are identical/);
    await img.ok('convert', '-O', 'qcow2', uri, folder.file('copy.qcow2'));
    await qemuImg.compare(folder.file('copy.qcow2'), 'qcow2', top, 'qcow2');
    const { status } = await img.run('check', '-f', 'raw', uri);
    assert.equal(status, 63);
  },
);

test(
  'img convert fills a disk that nbdkit serves, and compare finds it equal',
  requires('qemu-img', 'nbdkit'),
  async () => {
    await using folder = await temporaryFolder();
    const source = folder.file('source.raw');
    const content = Buffer.alloc(9 * 2 ** 20, 'nbdkit');
    content.fill(0, 2 ** 20, 4 * 2 ** 20);
    await writeFile(source, content);
    const socket = folder.file('k');
    await using _server = await nbdkit(socket, ['memory', `${content.length}`]);
    const uri = `nbd+unix:///?socket=${socket}`;
    await img.ok('convert', '-n', '-f', 'raw', '-O', 'raw', source, uri);
    assert.match(await img.ok('compare', '-f', 'raw', '-F', 'raw', source, uri), /identical/);
    await img.ok('convert', '-f', 'raw', '-O', 'raw', uri, folder.file('back.raw'));
    await qemuImg.compare(source, 'raw', folder.file('back.raw'), 'raw');
  },
);

test(
  'an error of the server ends the copy with a failure that says where',
  requires('qemu-img', 'nbdkit'),
  async () => {
    await using folder = await temporaryFolder();
    const socket = folder.file('k');
    await using _server = await nbdkit(socket, [
      '--filter=error',
      'pattern',
      '4M',
      'error-pread=EIO',
      'error-pread-rate=1',
    ]);
    const { status, stderr } = await img.run(
      'convert',
      '-f',
      'raw',
      '-O',
      'raw',
      `nbd+unix:///?socket=${socket}`,
      folder.file('out'),
    );
    assert.equal(status, 1);
    assert.match(stderr, /0|offset/);
  },
);
