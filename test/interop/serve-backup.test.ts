/** Backups of disks that our own server has open while guests write: the same stories as of the real daemon. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { qemuImg, requires, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { img, imgServe } from '../img.ts';
import { backupStory, uriOf } from './backup-story.ts';
import { movingGuest } from './moving-guest.ts';

const MiB = 1 << 20;
const nodes = ['disk', 'fine'].map((name) => ({ name, size: 24 * MiB }));

/** Our server with two disks of different clusters. */
async function servedDisks(folder: TemporaryFolder) {
  for (const { name } of nodes) {
    const options = name === 'fine' ? ['-o', 'cluster_size=4k'] : [];
    await qemuImg.ok('create', '-q', '-f', 'qcow2', ...options, folder.file(`${name}.qcow2`), '24M');
  }
  const [socket, control] = [folder.file('nbd'), folder.file('control')];
  const files = nodes.map(({ name }) => `${name}=${folder.file(`${name}.qcow2`)}`);
  const server = await imgServe(socket, ['-f', 'qcow2', '--control', control, ...files]);
  return { ...server, socket, control };
}

async function assertSound(folder: TemporaryFolder): Promise<void> {
  for (const { name } of nodes) {
    assert.equal((await qemuImg.check(folder.file(`${name}.qcow2`))).status, 0);
    const listed = JSON.parse(
      await img.ok('checkpoint', 'list', '--output=json', folder.file(`${name}.qcow2`)),
    );
    assert.deepEqual(
      listed.map(({ state }: { readonly state: string }) => state),
      ['recording'],
    );
  }
}

test(
  'a full backup and three incremental ones of our server: each restores as it was',
  requires('qemu-img', 'qemu-io'),
  async () => {
    await using folder = await temporaryFolder();
    await using server = await servedDisks(folder);
    await backupStory(server, nodes, folder);
    assert.equal(await server.stop(), 0);
    await assertSound(folder);
  },
);

test(
  'the same while fio writes all the time: each state is of one moment',
  requires('qemu-img', 'fio'),
  async () => {
    await using folder = await temporaryFolder();
    await using server = await servedDisks(folder);
    {
      await using guest = await movingGuest(uriOf(server.socket, 'disk'), 24 * MiB);
      await using other = await movingGuest(uriOf(server.socket, 'fine'), 24 * MiB);
      await backupStory(server, nodes, folder, [guest, other]);
    }
    assert.equal(await server.stop(), 0);
    await assertSound(folder);
  },
);
