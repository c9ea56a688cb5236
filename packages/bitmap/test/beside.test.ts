/** Raw images of the host with bitmaps beside them: the laws of layers hold, and every change of others is noticed. */
import assert from 'node:assert/strict';
import { appendFile, copyFile, open, rename, truncate, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { isDiskError, type Layer, MemoryDevice, openFile, raw } from '@strata/block';
import { layerSuite, type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import { beforeOtherChanges, bitmapsBeside, withBitmapsBeside } from '../src/beside.ts';
import { type BitmapStore, bitmapStoreOf, bitmapsOf } from '../src/store.ts';
import { sideWorld } from './side-world.ts';

const format = withBitmapsBeside(raw);
const KiB = 1024;
const nothing = new MemoryDevice(2 ** 20);

for (const recording of [false, true]) {
  layerSuite({
    name: recording ? 'a raw image that records beside it' : 'a raw image that could record beside it',
    size: 234_567,
    backed: false,
    skip: [
      { law: 'fresh', reason: 'a raw image holds all of its disk' },
      { law: 'empty', reason: 'a raw image cannot be emptied' },
    ],
    open: async () => {
      const world = sideWorld(new MemoryDevice(234_567));
      let layer = await world.format.open(world.host);
      if (recording) await bitmapStoreOf(layer)?.add('b', { granularity: 4096 });
      return {
        layer,
        reopen: async () => {
          await layer[Symbol.asyncDispose]();
          layer = await world.format.open(world.host);
          return layer;
        },
        [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
      };
    },
  });
}

/** An image with a bitmap that says one thing. */
async function recorded(folder: TemporaryFolder): Promise<string> {
  const path = folder.file('disk.raw');
  await writeFile(path, new Uint8Array(256 * KiB));
  await opened(path, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity: 4 * KiB });
    await layer.write(new Uint8Array(10).fill(1), 10 * KiB, nothing);
  });
  return path;
}

async function opened(
  path: string,
  work: (layer: Layer, bitmaps: BitmapStore) => Promise<unknown>,
): Promise<void> {
  await using file = await openFile(path, { access: 'write' });
  await using layer = await format.open(file);
  await work(layer, bitmapStoreOf(layer) as BitmapStore);
}

async function dirtyIn(path: string): Promise<readonly number[] | 'inconsistent'> {
  await using file = await openFile(path, { access: 'read' });
  await using layer = await format.openSource(file);
  const bitmaps = bitmapsOf(layer);
  if ((await bitmaps?.list())?.[0]?.inconsistent) return 'inconsistent';
  const bitmap = await bitmaps?.load('b0');
  return [...(bitmap?.ranges() ?? [])].map(({ offset }) => offset);
}

test('a bitmap beside a file of the host is kept from opening to opening', async () => {
  await using folder = await temporaryFolder();
  const path = await recorded(folder);
  assert.deepEqual(await dirtyIn(path), [8 * KiB]);
  for (let round = 0; round < 3; round++)
    await opened(path, (layer) => layer.zero((100 + round * 50) * KiB, 1, nothing));
  assert.deepEqual(await dirtyIn(path), [8 * KiB, 100 * KiB, 148 * KiB, 200 * KiB]);
});

test('what the host copies into the image is recorded too', async () => {
  await using folder = await temporaryFolder();
  const path = await recorded(folder);
  await using source = await openFile(path, { access: 'read' });
  await opened(path, async (layer) => {
    const range = { host: source, at: 0, length: 10 * KiB };
    const isCopied = await layer.copyFrom?.(range, 100 * KiB, nothing);
    assert.equal(isCopied, process.platform === 'linux');
  });
  assert.deepEqual(await dirtyIn(path), [8 * KiB, 100 * KiB]);
});

test('any change by another program makes it inconsistent, however soon it comes', async () => {
  const changes: readonly ((path: string, folder: TemporaryFolder) => Promise<unknown>)[] = [
    async (path) => {
      await using file = await open(path, 'r+');
      await file.write(new Uint8Array(1), 0, 1, 0);
    },
    (path) => appendFile(path, 'x'),
    (path) => truncate(path, 256 * KiB),
    async (path, folder) => {
      await copyFile(path, folder.file('copy'));
      await rename(folder.file('copy'), path);
    },
  ];
  for (const change of changes) {
    await using folder = await temporaryFolder();
    const path = await recorded(folder);
    await change(path, folder);
    assert.equal(await dirtyIn(path), 'inconsistent', String(change));
  }
});

test('a change of the file that leaves the disk alone leaves them sound if it is announced', async () => {
  await using folder = await temporaryFolder();
  const path = await recorded(folder);
  await using file = await openFile(path, { access: 'write' });
  {
    await using layer = await format.open(file);
    await beforeOtherChanges(layer);
    await file.write(new Uint8Array(1), 0);
  }
  assert.deepEqual(await dirtyIn(path), [8 * KiB]);
});

test('without a side file an image that is read is the very same layer', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('disk.raw');
  await writeFile(path, new Uint8Array(KiB));
  await using file = await openFile(path, { access: 'read' });
  assert.equal(await bitmapsBeside(file, { size: KiB }), undefined);
  const [ours, plain] = [await format.openSource(file), await raw.openSource(file)];
  assert.equal(ours.constructor, plain.constructor);
  await assert.rejects(format.openSource(file, { snapshot: { idOrName: '1' } }), (error) =>
    isDiskError(error, 'not-supported'),
  );
});
