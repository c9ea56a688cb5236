/** Changes to an image's list of bitmaps happen together or not at all, and leave every bitmap usable. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BitmapChange, type BitmapSource, bitmapsOf } from '@strata/bitmap';
import { isDiskError, MemoryDevice } from '@strata/block';
import { nbdinfo, qemuImg, qemuIo, qemuNbd, requires, temporaryFolder } from '@strata/testkit';
import { changeBitmaps } from '../src/change-bitmaps.ts';
import { checkImage } from '../src/check.ts';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { featuresPatch } from '../src/header-encode.ts';
import { qcow2Format } from '../src/layer.ts';
import { contentOf, selections, windowsOf } from './crash-states.ts';
import { openHost } from './host.ts';
import { seeded } from './random.ts';
import { RecordingFile } from './recording.ts';

const MiB = 1024 * 1024;
const nothing = new MemoryDevice(8 * MiB);

async function memoryImage(options: Partial<CreateQcow2Options> = {}): Promise<MemoryDevice> {
  const memory = new MemoryDevice();
  await createQcow2(memory, { size: 8 * MiB, clusterSize: 4096, ...options });
  return memory;
}

const add = (name: string, enabled = true): BitmapChange => ({
  kind: 'add',
  name,
  granularity: 4096,
  enabled,
});

async function write(memory: MemoryDevice, offset: number, length: number): Promise<void> {
  await using layer = await qcow2Format.open(memory);
  await layer.write(new Uint8Array(length).fill(7), offset, nothing);
}

/** Name, state and dirty ranges of every bitmap. */
async function listed(memory: MemoryDevice) {
  await using source = await qcow2Format.openSource(memory);
  const bitmaps = bitmapsOf(source) as BitmapSource;
  return Promise.all(
    (await bitmaps.list()).map(async ({ name, enabled, inconsistent }) => ({
      name,
      enabled,
      inconsistent,
      ranges: inconsistent ? [] : [...(await bitmaps.load(name)).ranges()],
    })),
  );
}

const bytesOf = (memory: MemoryDevice): Uint8Array => {
  const bytes = new Uint8Array(memory.size);
  memory.tryRead(bytes, 0);
  return bytes;
};

test('bitmaps are added, frozen, renamed and removed in one change, and record what comes after', async () => {
  const memory = await memoryImage();
  await changeBitmaps(memory, [add('a'), add('off', false)]);
  await write(memory, 8192, 4096);
  await changeBitmaps(memory, [
    { kind: 'set-enabled', name: 'a', enabled: false },
    { kind: 'rename', name: 'off', to: 'on' },
    { kind: 'set-enabled', name: 'on', enabled: true },
    add('c'),
  ]);
  await write(memory, 0, 4096);
  const dirty = (offset: number) => [{ offset, length: 4096 }];
  assert.deepEqual(await listed(memory), [
    { name: 'a', enabled: false, inconsistent: false, ranges: dirty(8192) },
    { name: 'on', enabled: true, inconsistent: false, ranges: dirty(0) },
    { name: 'c', enabled: true, inconsistent: false, ranges: dirty(0) },
  ]);
  await changeBitmaps(
    memory,
    ['a', 'on', 'c'].map((name) => ({ kind: 'remove', name })),
  );
  assert.deepEqual(await listed(memory), []);
  const { corruptions, checkErrors, leaks } = await checkImage(memory);
  assert.deepEqual([corruptions, checkErrors, leaks], [0, 0, 0]);
});

test('a change that cannot be made leaves the image as it was', async () => {
  const memory = await memoryImage();
  await changeBitmaps(memory, [add('a')]);
  const before = await listed(memory);
  const rows: readonly (readonly [BitmapChange, string])[] = [
    [add('a'), 'exists'],
    [add(''), 'invalid'],
    [add('x'.repeat(1024)), 'invalid'],
    [{ kind: 'add', name: 'odd', granularity: 5000, enabled: true }, 'invalid'],
    [{ kind: 'remove', name: 'none' }, 'not-found'],
    [{ kind: 'rename', name: 'a', to: 'b' }, 'exists'],
    [{ kind: 'set-enabled', name: 'none', enabled: true }, 'not-found'],
  ];
  for (const [change, code] of rows) {
    await assert.rejects(changeBitmaps(memory, [add('b'), change]), (error) =>
      isDiskError(error, code as never),
    );
    assert.deepEqual(await listed(memory), before);
  }
  const empty = await memoryImage({ size: 0 });
  await assert.rejects(changeBitmaps(empty, [add('a')]), (error) => isDiskError(error, 'invalid'));
  const old = await memoryImage({ version: 2 });
  await assert.rejects(changeBitmaps(old, [add('a')]), (error) => isDiskError(error, 'not-supported'));
});

test('features that nobody keeps up to date are dropped before anything changes', async () => {
  const memory = await memoryImage();
  const header = await readHeader(memory);
  const { offset, bytes } = featuresPatch({ ...header, autoclear: header.autoclear | 128n });
  await memory.write(bytes, offset);
  await changeBitmaps(memory, [add('a')]);
  assert.equal((await readHeader(memory)).autoclear, 1n);
});

test('a power cut at any moment leaves the bitmaps of before or those of after, all of them usable', async () => {
  let [states, before, after] = [0, 0, 0];
  const base = await memoryImage();
  await changeBitmaps(base, [add('one'), add('two', false)]);
  await write(base, 4096, 40_960);
  const start = bytesOf(base);
  const memory = new MemoryDevice();
  await memory.write(start, 0);
  const file = new RecordingFile(memory);
  const old = await listed(base);
  await changeBitmaps(file, [
    { kind: 'set-enabled', name: 'one', enabled: false },
    { kind: 'remove', name: 'two' },
    add('three'),
  ]);
  const fresh = await listed(memory);
  const random = seeded(3);
  for (const window of windowsOf(file)) {
    for (const kept of selections(window, random, () => false)) {
      states++;
      const image = new MemoryDevice();
      await image.write(contentOf(start, window, kept), 0);
      const { corruptions, checkErrors } = await checkImage(image);
      assert.deepEqual([corruptions, checkErrors], [0, 0]);
      const found = await listed(image);
      if (JSON.stringify(found) === JSON.stringify(old)) before++;
      else {
        assert.deepEqual(found, fresh);
        after++;
      }
    }
  }
  assert.ok(states > 20 && before > 5 && after > 5, `${before} before and ${after} after of ${states}`);
});

test(
  'qemu-img and qemu-nbd find the bitmaps that were made, and what QEMU wrote in them',
  requires('qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo'),
  async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('disk.qcow2');
    await qemuImg.create(path, '8M');
    const changing = async (changes: readonly BitmapChange[]) => {
      await using host = await openHost(path);
      await changeBitmaps(host, changes);
    };
    await changing([add('a')]);
    await qemuIo(path, ['write 64k 4k']);
    await changing([{ kind: 'set-enabled', name: 'a', enabled: false }, add('b')]);
    await qemuIo(path, ['write 1M 4k']);
    assert.equal((await qemuImg.check(path)).status, 0);
    for (const [name, at] of [
      ['a', 65_536],
      ['b', MiB],
    ] as const) {
      const socket = folder.file(`${name}.sock`);
      await using _ = await qemuNbd(path, socket, ['-f', 'qcow2', '-r', '-B', name]);
      const map = await nbdinfo.map(`nbd+unix:///?socket=${socket}`, `qemu:dirty-bitmap:${name}`);
      const dirty = map.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length]);
      assert.deepEqual(dirty, [[at, 4096]]);
    }
  },
);
