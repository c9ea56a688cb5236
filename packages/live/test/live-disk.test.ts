/** The gate in front of images that change. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError, hostFile, isDiskError, MemoryDevice } from '@strata/block';
import { openChain, openWritableChain } from '@strata/chain';
import { blockSuite, bytesOf } from '@strata/testkit';
import { LiveDisk } from '../src/live-disk.ts';
import { NodeNames } from '../src/node-names.ts';
import { nodesOf } from '../src/nodes.ts';
import { snapshot } from '../src/snapshot.ts';
import { chainFiles, clusterSize, newDisk, newOverlay, openDisk, size } from './live-disks.ts';
import { MemoryFiles } from './memory-files.ts';

blockSuite({
  name: 'a disk in use',
  open: async () => {
    const { disk, files } = await newDisk();
    const below = await bytesOf(disk);
    let again: AsyncDisposable | undefined;
    return {
      device: disk,
      below,
      reopen: async () => {
        await disk[Symbol.asyncDispose]();
        const chain = await openWritableChain('top', files.opening);
        again = chain;
        return chain.device;
      },
      [Symbol.asyncDispose]: async () => {
        await disk[Symbol.asyncDispose]();
        await again?.[Symbol.asyncDispose]();
      },
    };
  },
});

test('while a disk is paused calls wait, and pauses add up', async () => {
  await using subject = await newDisk();
  const { disk } = subject;
  const first = await disk.pause();
  const second = await disk.pause();
  const order: string[] = [];
  const write = disk.write(new Uint8Array(512).fill(9), 0).then(() => order.push('written'));
  assert.equal(disk.tryRead(new Uint8Array(1), 0), false);
  assert.equal(disk.tryExtentAt(0, 1), undefined);
  first();
  first();
  await new Promise((resolve) => setImmediate(resolve));
  order.push('second');
  second();
  await write;
  assert.deepEqual(order, ['second', 'written']);
});

test('a raw image is sent from its file, and nothing while the disk is paused', async () => {
  const files = new MemoryFiles();
  files.memories.set('plain', new MemoryDevice(8192));
  const sent: string[] = [];
  const tryDirect = () => (socket: number, offset: number, length: number) => {
    sent.push(`${socket}: ${offset}+${length}`);
    return length;
  };
  files.through = (file) => ({ ...hostFile(file), tryDirect });
  const chain = await openWritableChain('plain', { ...files.opening, format: 'raw' });
  await using disk = new LiveDisk(nodesOf(chain, new NodeNames(), 'disk'));
  assert.equal(disk.tryDirect(512, 1024)?.(7, 512, 1024), 1024);
  assert.deepEqual(sent, ['7: 512+1024']);
  const resume = await disk.pause();
  assert.equal(disk.tryDirect(512, 1024), undefined);
  resume();
  assert.throws(() => disk.tryDirect(8000, 1024), RangeError);
});

test('the structure changes only while a disk is paused', async () => {
  await using subject = await newDisk();
  assert.throws(() => subject.disk.exchange(subject.disk.nodes), RangeError);
  assert.throws(() => subject.disk.filterWith(undefined), RangeError);
});

test('one job at a time holds a disk, and others are told which', async () => {
  await using subject = await newDisk();
  const claim = subject.disk.claim('block job: backup', async () => undefined);
  assert.throws(
    () => subject.disk.checkFree(),
    (error) =>
      isDiskError(error, 'busy') &&
      error.message === "Node 'disk' is busy: block device is in use by block job: backup",
  );
  assert.throws(() => subject.disk.claim('x', async () => undefined), DiskError);
  claim.end();
  subject.disk.checkFree();
});

test('closing a disk ends the job that holds it, and calls that wait fail with closed', async () => {
  const { disk } = await newDisk();
  const resume = await disk.pause();
  let ended = false;
  disk.claim('block job: backup', async () => {
    ended = true;
    resume();
  });
  const waiting = assert.rejects(disk.write(new Uint8Array(1), 0), (error) => isDiskError(error, 'closed'));
  await disk[Symbol.asyncDispose]();
  await waiting;
  assert.ok(ended);
});

test('a disk of images that are open for reading refuses every change', async () => {
  const subject = await newDisk();
  const expected = await bytesOf(subject.disk);
  await subject.disk[Symbol.asyncDispose]();
  const chain = await openChain('top', subject.files.opening);
  await using disk = new LiveDisk(nodesOf(chain, subject.names));
  assert.deepEqual(await bytesOf(disk), expected);
  for (const change of [
    () => disk.write(new Uint8Array(1), 0),
    () => disk.zero(0, 1),
    () => disk.discard(0, 1),
  ])
    await assert.rejects(change(), (error) => isDiskError(error, 'read-only'));
  await disk.flush();
});

test('a disk over another one shows what is under it at the moment, before and after a snapshot', async () => {
  const subject = await openDisk(await chainFiles(['base', 'top']), 'top');
  const { disk, files } = subject;
  await files.create('over', { size, clusterSize, backing: 'top' });
  const chain = await openWritableChain('over', { ...files.opening, backing: false });
  const above = new LiveDisk(nodesOf(chain, subject.names, 'above'), disk);
  await disk.write(new Uint8Array(100).fill(1), 0);
  assert.equal((await bytesOf(above))[0], 1);
  await snapshot(disk, await newOverlay(subject, 'snap'));
  await disk.write(new Uint8Array(100).fill(2), 0);
  assert.equal((await bytesOf(above))[0], 2);
  assert.equal((await above.extentAt(0, 1)).depth, 2);
  await above.write(new Uint8Array(1).fill(3), 0);
  assert.deepEqual([(await bytesOf(above))[0], (await bytesOf(disk))[0]], [3, 2]);
  const resume = await disk.pause();
  assert.equal(above.tryRead(new Uint8Array(1), 0), false, 'it is paused with the one under it');
  resume();
  await assert.rejects(disk[Symbol.asyncDispose](), RangeError);
  await above[Symbol.asyncDispose]();
  await disk[Symbol.asyncDispose]();
});
