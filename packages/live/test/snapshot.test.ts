/** Snapshots of a disk in use: what is lost, torn or left behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bitmapStoreOf, bitmapsOf } from '@strata/bitmap';
import { DiskError, isDiskError, MemoryDevice } from '@strata/block';
import { closeImage, openChain, openWritableChain } from '@strata/chain';
import { blockSuite, bytesOf, randomFrom } from '@strata/testkit';
import { prepareCommit } from '../src/commit/commit.ts';
import { prepareSnapshot, snapshot } from '../src/snapshot.ts';
import { chainFiles, newDisk, newOverlay, openDisk, size } from './live-disks.ts';
import { failing } from './memory-files.ts';
import { RecordedJobs } from './run-job.ts';

blockSuite({
  name: 'a disk after two snapshots',
  open: async () => {
    const subject = await newDisk();
    const { disk, files } = subject;
    await disk.write(new Uint8Array(100_000).fill(7), 5000);
    await snapshot(disk, await newOverlay(subject, 'one'));
    await disk.write(new Uint8Array(70_000).fill(8), 50_000);
    await snapshot(disk, await newOverlay(subject, 'two'));
    const below = await bytesOf(disk);
    let again: AsyncDisposable | undefined;
    return {
      device: disk,
      below,
      reopen: async () => {
        await disk[Symbol.asyncDispose]();
        const chain = await openWritableChain('two', files.opening);
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

test('the old top keeps the moment of the snapshot, and all that is written later is in the overlay', async () => {
  const random = randomFrom(3);
  const subject = await newDisk();
  const { disk, files } = subject;
  await disk.write(random.bytes(30_000), 1000);
  const then = await bytesOf(disk);
  assert.equal(await snapshot(disk, await newOverlay(subject, 'over')), undefined);
  await disk.write(random.bytes(50_000), 20_000);
  await disk.zero(100_000, 9000);
  const now = await bytesOf(disk);
  assert.deepEqual(
    disk.nodes.map(({ name, writable }) => [name.startsWith('#') ? '#' : name, writable !== undefined]),
    [
      ['over', true],
      ['disk', false],
      ['#', false],
      ['#', false],
    ],
  );
  assert.deepEqual(files.holdersOf('over'), ['write']);
  assert.deepEqual(files.holdersOf('top'), ['read']);
  await disk[Symbol.asyncDispose]();
  assert.deepEqual(files.holdersOf('top'), []);
  for (const [name, expected] of [
    ['top', then],
    ['over', now],
  ] as const) {
    await using chain = await openChain(name, files.opening);
    const found = new Uint8Array(size);
    await chain.source.read(found, 0);
    assert.deepEqual(found, expected, name);
  }
});

test('a write in flight ends on the old top, and one that comes meanwhile waits and goes to the overlay', async () => {
  const files = await chainFiles(['base', 'top']);
  let let1 = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    let1 = resolve;
  });
  let isHolding = false;
  files.through = (file, name) =>
    name === 'top'
      ? failing(file, ({ call }) => (isHolding && call === 'write' ? { wait: held } : undefined))
      : file;
  const subject = await openDisk(files, 'top');
  const { disk } = subject;
  await disk.write(new Uint8Array(4096).fill(1), 0);
  const overlay = await newOverlay(subject, 'over');
  isHolding = true;
  const first = disk.write(new Uint8Array(512).fill(2), 0);
  const ending = snapshot(disk, overlay);
  const second = disk.write(new Uint8Array(512).fill(3), 512);
  assert.equal(disk.tryRead(new Uint8Array(1), 0), false, 'a disk that is paused answers nothing at once');
  const read = bytesOf(disk);
  isHolding = false;
  let1();
  await Promise.all([first, ending, second]);
  const bytes = await read;
  assert.deepEqual([bytes[0], bytes[512], bytes[1024]], [2, bytes[512], 1]);
  assert.deepEqual([...(await bytesOf(disk)).subarray(511, 514)], [2, 3, 3]);
  await disk[Symbol.asyncDispose]();
  await using chain = await openChain('top', files.opening);
  const old = new Uint8Array(1024);
  await chain.source.read(old, 0);
  assert.deepEqual([old[511], old[512]], [2, 1]);
});

test('bitmaps stay with the old top, stored, and the overlay has none', async () => {
  const subject = await newDisk();
  const { disk, files } = subject;
  await bitmapStoreOf(disk.top.image.layer)?.add('b', { granularity: 4096 });
  await disk.write(new Uint8Array(4096), 8192);
  await snapshot(disk, await newOverlay(subject, 'over'));
  await disk.write(new Uint8Array(4096), 40_960);
  const stored = await bitmapsOf(disk.nodes[1]?.image.layer as object)?.load('b');
  assert.deepEqual([...(stored?.ranges() ?? [])], [{ offset: 8192, length: 4096 }]);
  assert.deepEqual(await bitmapsOf(disk.top.image.layer)?.list(), []);
  await disk[Symbol.asyncDispose]();
  await using chain = await openChain('top', files.opening);
  assert.deepEqual(await bitmapsOf(chain.images[0]?.layer as object)?.list(), [
    { name: 'b', granularity: 4096, enabled: true, inconsistent: false, persistent: true, busy: false },
  ]);
});

test('bitmaps in memory stay with the old top too, and record again when images are committed into it', async () => {
  const subject = await newDisk();
  const { disk } = subject;
  await bitmapStoreOf(disk.top.image.layer)?.add('t', { granularity: 4096, persistent: false });
  await disk.write(new Uint8Array(4096), 8192);
  for (const name of ['one', 'two']) {
    await snapshot(disk, await newOverlay(subject, name));
    await disk.write(new Uint8Array(4096), name === 'one' ? 40_960 : 81_920);
  }
  const ranges = async () => {
    const image = disk.nodes.find(({ name }) => name === 'disk')?.image.layer as object;
    return [...((await bitmapsOf(image)?.load('t'))?.ranges() ?? [])].map(({ offset }) => offset);
  };
  assert.deepEqual(await ranges(), [8192]);
  const options = { disk, top: 1, base: 2, backingFile: 'top' };
  const job = await new RecordedJobs().begin(disk, (stop) => prepareCommit(options, stop));
  await job.dismissed;
  assert.equal(job.error, undefined);
  assert.deepEqual(await ranges(), [8192, 40_960]);
  await disk[Symbol.asyncDispose]();
});

test('a snapshot that was prepared can be left undone', async () => {
  await using subject = await newDisk();
  const { disk } = subject;
  const overlay = await newOverlay(subject, 'over');
  await disk.paused(async () => {
    const prepared = await prepareSnapshot(disk, overlay);
    assert.equal(disk.top, overlay);
    prepared.drop();
  });
  assert.equal(disk.top.name, 'disk');
  await disk.write(new Uint8Array(10).fill(4), 0);
  assert.equal((await bytesOf(disk))[0], 4);
  await closeImage(overlay.image);
});

test('a snapshot that cannot be made leaves the disk as it was', async () => {
  const files = await chainFiles(['base', 'top']);
  let fails = false;
  files.through = (file, name) =>
    name === 'top'
      ? failing(file, ({ call }) =>
          fails && call === 'flush' ? { fail: new DiskError('io', 'no') } : undefined,
        )
      : file;
  await using subject = await openDisk(files, 'top');
  const { disk } = subject;
  const overlay = await newOverlay(subject, 'over');
  await disk.write(new Uint8Array(1000).fill(1), 0);
  const then = await bytesOf(disk);
  fails = true;
  await assert.rejects(snapshot(disk, overlay), (error) => isDiskError(error, 'io'));
  fails = false;
  assert.deepEqual(await bytesOf(disk), then);
  assert.equal(disk.top.name, 'disk');
  await overlay.image.layer[Symbol.asyncDispose]();
  await overlay.image.host[Symbol.asyncDispose]();

  const other = new MemoryDevice();
  files.memories.set('other', other);
  await files.create('other', { size: size + 512, clusterSize: 4096, backing: 'top' });
  const { top } = await openWritableChain('other', { ...files.opening, backing: false });
  const node = { name: 'x', image: top, writable: top };
  await assert.rejects(snapshot(disk, node), (error) => isDiskError(error, 'invalid'));
  await disk.write(new Uint8Array(1000).fill(2), 0);
  assert.equal((await bytesOf(disk))[0], 2);
});
