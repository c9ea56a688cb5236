/** Bitmaps of an image record what is written through it, are stored at its end, and are never clean where they should not be. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BitmapSource, type BitmapStore, bitmapStoreOf, bitmapsOf, DirtyBitmap } from '@strata/bitmap';
import { isDiskError, type Layer, MemoryDevice } from '@strata/block';
import { nbdinfo, qemuImg, qemuIo, qemuNbd, requires, temporaryFolder } from '@strata/testkit';
import { checkImage } from '../src/check.ts';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { contentOf, selections, windowsOf } from './crash-states.ts';
import { readGuest } from './guest.ts';
import { openHost } from './host.ts';
import { type Random, seeded } from './random.ts';
import { RecordingFile } from './recording.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const nothing = new MemoryDevice(64 * MiB);

async function memoryImage(options: CreateQcow2Options): Promise<MemoryDevice> {
  const memory = new MemoryDevice();
  await createQcow2(memory, options);
  return memory;
}

const storeOf = (layer: Layer): BitmapStore => bitmapStoreOf(layer) as BitmapStore;

/** Runs `work` on an image that is opened for it and closed. */
async function opened(
  memory: MemoryDevice,
  work: (layer: Layer, bitmaps: BitmapStore) => Promise<void>,
): Promise<void> {
  await using layer = await qcow2Format.open(memory);
  await work(layer, storeOf(layer));
}

const loaded = (source: object, name: string): Promise<DirtyBitmap> =>
  (bitmapsOf(source) as BitmapSource).load(name);

async function rangesOf(memory: MemoryDevice, name: string) {
  await using source = await qcow2Format.openSource(memory);
  return [...(await loaded(source, name)).ranges()];
}

async function assertClean(memory: MemoryDevice): Promise<void> {
  const { findings, corruptions, leaks, checkErrors } = await checkImage(memory);
  assert.deepEqual([corruptions, leaks, checkErrors], [0, 0, 0], findings.map(({ text }) => text).join('; '));
}

test('writes, zeros and discards are recorded at the granularity, and kept over reopenings', async () => {
  const memory = await memoryImage({ size: 16 * MiB });
  await opened(memory, (_, bitmaps) => bitmaps.add('b0', { granularity: 64 * KiB }));
  await opened(memory, async (layer) => {
    await layer.write(new Uint8Array(1).fill(1), 100, nothing);
    await layer.zero(MiB, 64 * KiB, nothing);
  });
  await opened(memory, (layer) => layer.discard(2 * MiB, 128 * KiB));
  assert.deepEqual(await rangesOf(memory, 'b0'), [
    { offset: 0, length: 64 * KiB },
    { offset: MiB, length: 64 * KiB },
    { offset: 2 * MiB, length: 128 * KiB },
  ]);
  await assertClean(memory);
});

test('a disabled bitmap records nothing, and its clusters are not written', async () => {
  const memory = await memoryImage({ size: 16 * MiB });
  await opened(memory, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity: 64 * KiB });
    await layer.write(new Uint8Array(512).fill(1), 0, nothing);
    await bitmaps.setEnabled('b0', false);
    await layer.write(new Uint8Array(512).fill(1), MiB, nothing);
  });
  await opened(memory, (layer) => layer.write(new Uint8Array(512).fill(1), 2 * MiB, nothing));
  assert.deepEqual(await rangesOf(memory, 'b0'), [{ offset: 0, length: 64 * KiB }]);
  await assertClean(memory);
});

test('a bitmap is cleared, merged across granularities, and removed with all that it took', async () => {
  const memory = await memoryImage({ size: 16 * MiB });
  await opened(memory, async (layer, bitmaps) => {
    await bitmaps.add('fine', { granularity: 4 * KiB });
    await bitmaps.add('coarse', { granularity: MiB, enabled: false });
    await layer.write(new Uint8Array(512).fill(1), 5 * MiB, nothing);
    await bitmaps.merge('coarse', await bitmaps.load('fine'));
    await bitmaps.clear('fine');
  });
  assert.deepEqual(await rangesOf(memory, 'coarse'), [{ offset: 5 * MiB, length: MiB }]);
  assert.deepEqual(await rangesOf(memory, 'fine'), []);
  await opened(memory, async (_, bitmaps) => {
    await bitmaps.remove('fine');
    assert.deepEqual(await bitmaps.list(), [
      {
        name: 'coarse',
        granularity: MiB,
        enabled: false,
        inconsistent: false,
        persistent: true,
        busy: false,
      },
    ]);
    await bitmaps.remove('coarse');
    assert.deepEqual(await bitmaps.list(), []);
  });
  await assertClean(memory);
});

test('what cannot be is refused, and changes nothing', async () => {
  const memory = await memoryImage({ size: 16 * MiB });
  await opened(memory, (_, bitmaps) => bitmaps.add('b0', { granularity: 64 * KiB }));
  const before = memory.bytes();
  await opened(memory, async (_, bitmaps) => {
    const refused = (call: Promise<unknown>, code: Parameters<typeof isDiskError>[1], message: RegExp) =>
      assert.rejects(call, (error: Error) => isDiskError(error, code) && message.test(error.message));
    await refused(bitmaps.add('b0', { granularity: 512 }), 'exists', /^Bitmap already exists: b0$/);
    await refused(bitmaps.add('', { granularity: 512 }), 'invalid', /cannot be empty/);
    await refused(bitmaps.add('x'.repeat(1024), { granularity: 512 }), 'invalid', /too long/);
    await refused(bitmaps.add('x', { granularity: 1000 }), 'invalid', /power of 2/);
    await refused(bitmaps.remove('x'), 'not-found', /^Dirty bitmap 'x' not found$/);
    await refused(bitmaps.load('x'), 'not-found', /not found/);
    await refused(bitmaps.merge('b0', new DirtyBitmap(MiB, 512)), 'invalid', /different sizes/);
  });
  assert.ok(Buffer.from(before).equals(memory.bytes()));
  const old = await memoryImage({ size: MiB, version: 2 });
  await opened(old, (_, bitmaps) =>
    assert.rejects(bitmaps.add('b', { granularity: 512 }), /Cannot store dirty bitmaps in qcow2 v2 files/),
  );
});

test('a bitmap follows the size of the disk', async () => {
  const memory = await memoryImage({ size: 16 * MiB, clusterSize: 512 });
  await opened(memory, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity: 512 });
    await layer.write(new Uint8Array(512).fill(1), 15 * MiB, nothing);
    await layer.resize(40 * MiB, nothing);
    await layer.write(new Uint8Array(512).fill(1), 39 * MiB, nothing);
  });
  assert.deepEqual(await rangesOf(memory, 'b0'), [
    { offset: 15 * MiB, length: 512 },
    { offset: 39 * MiB, length: 512 },
  ]);
  await opened(memory, (layer) => layer.resize(15 * MiB + 512, nothing));
  assert.deepEqual(await rangesOf(memory, 'b0'), [{ offset: 15 * MiB, length: 512 }]);
  await assertClean(memory);
});

/** A file whose writes wait until they are let go. */
function heldBack(memory: MemoryDevice) {
  const waiting: (() => void)[] = [];
  let holding = false;
  const file = new Proxy(memory, {
    get: (target, key) => {
      if (key === 'write' && holding) {
        return async (from: Uint8Array, at: number) => {
          await new Promise<void>((resolve) => waiting.push(resolve));
          await target.write(from, at);
        };
      }
      const value = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const release = (): void => {
    holding = false;
    for (const go of waiting.splice(0)) go();
  };
  return {
    file,
    release,
    hold: () => {
      holding = true;
    },
  };
}

test('changes of bitmaps come between changes of the disk: none is in the wrong half', async () => {
  for (const what of ['freeze', 'clear', 'add', 'enable'] as const) {
    const memory = await memoryImage({ size: 16 * MiB });
    const { file, hold, release } = heldBack(memory);
    await using layer = await qcow2Format.open(file);
    const bitmaps = storeOf(layer);
    await bitmaps.add('b0', { granularity: 64 * KiB, enabled: what !== 'enable' });
    await layer.write(new Uint8Array(64 * KiB).fill(1), 0, nothing);
    hold();
    const before = layer.write(new Uint8Array(512).fill(2), 0, nothing);
    const change = {
      freeze: () => bitmaps.freeze('b0'),
      clear: () => bitmaps.clear('b0'),
      add: () => bitmaps.add('b1', { granularity: 64 * KiB }),
      enable: () => bitmaps.setEnabled('b0', true),
    }[what]();
    const after = layer.write(new Uint8Array(512).fill(3), 8 * MiB, nothing);
    release();
    const [frozen] = await Promise.all([change, before, after]);
    const early = { offset: 0, length: 64 * KiB };
    const late = { offset: 8 * MiB, length: 64 * KiB };
    const says = async (name: string) => [...(await bitmaps.load(name)).ranges()];
    if (frozen === undefined) {
      assert.deepEqual(await says(what === 'add' ? 'b1' : 'b0'), [late], what);
      continue;
    }
    assert.deepEqual([...frozen.content.ranges()], [early]);
    assert.deepEqual(await says('b0'), [early, late]);
    await frozen.end();
    assert.deepEqual(await says('b0'), [late]);
  }
});

test('a bitmap that is frozen when the image is closed is kept with all that it said', async () => {
  const memory = await memoryImage({ size: 16 * MiB });
  await opened(memory, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity: 64 * KiB });
    await bitmaps.add('passing', { granularity: 64 * KiB, persistent: false });
    await layer.write(new Uint8Array(1).fill(1), 0, nothing);
    await bitmaps.freeze('b0');
    await layer.write(new Uint8Array(1).fill(1), MiB, nothing);
  });
  assert.deepEqual(
    (await rangesOf(memory, 'b0')).map(({ offset }) => offset),
    [0, MiB],
  );
  await using source = await qcow2Format.openSource(memory);
  assert.equal((await bitmapsOf(source)?.list())?.length, 1);
});

test('a bitmap gets another name, and is what it was', async () => {
  const memory = await memoryImage({ size: 16 * MiB });
  await opened(memory, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity: 64 * KiB });
    await bitmaps.add('b1', { granularity: 64 * KiB, enabled: false });
    await layer.write(new Uint8Array(1).fill(1), MiB, nothing);
    await bitmaps.rename('b0', 'a much longer name');
    await layer.write(new Uint8Array(1).fill(1), 2 * MiB, nothing);
  });
  assert.deepEqual(
    (await rangesOf(memory, 'a much longer name')).map(({ offset }) => offset),
    [MiB, 2 * MiB],
  );
  await assertClean(memory);
});

test('emptying an image leaves its bitmaps in place', async () => {
  const memory = await memoryImage({ size: 16 * MiB, backing: { name: 'below', format: 'raw' } });
  await opened(memory, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity: 64 * KiB });
    await layer.write(new Uint8Array(512).fill(1), MiB, nothing);
  });
  await opened(memory, (layer) => layer.empty());
  assert.deepEqual(await rangesOf(memory, 'b0'), [{ offset: MiB, length: 64 * KiB }]);
  await assertClean(memory);
});

/** Random changes through the layer, in granules of 4 KiB of a disk of 2 MiB; the granules that they touch. */
async function randomChanges(layer: Layer, random: Random, count: number): Promise<Set<number>> {
  const touched = new Set<number>();
  for (let i = 0; i < count; i++) {
    const offset = random.below(4096) * 512;
    const length = Math.min((1 + random.below(40)) * 512, layer.size - offset);
    const kind = random.below(4);
    if (kind < 2) await layer.write(new Uint8Array(length).fill(i + 1), offset, nothing);
    else if (kind === 2) await layer.zero(offset, length, nothing);
    else await layer.discard(offset, length);
    for (let at = Math.floor(offset / 4096); at * 4096 < offset + length; at++) touched.add(at);
    if (random.below(5) === 0) await layer.flush();
  }
  return touched;
}

test('after a power cut a bitmap is there, and it is in use or has every granule that changed', async () => {
  let states = 0;
  let valid = 0;
  for (const clusterSize of [512, 4096, 65_536]) {
    const start = await memoryImage({ size: 2 * MiB, clusterSize });
    await opened(start, async (layer, bitmaps) => {
      await bitmaps.add('b0', { granularity: 4 * KiB });
      await randomChanges(layer, seeded(3), 3);
    });
    const base = start.bytes();
    const before = await guestOf(base);
    const memory = new MemoryDevice();
    await memory.write(base, 0);
    const file = new RecordingFile(memory);
    const layer = await qcow2Format.open(file);
    await randomChanges(layer, seeded(9), 6);
    await storeOf(layer).add('b1', { granularity: 512 });
    await storeOf(layer).rename('b1', 'b2');
    await randomChanges(layer, seeded(10), 4);
    await storeOf(layer).remove('b2');
    await layer[Symbol.asyncDispose]();
    const random = seeded(clusterSize);
    for (const window of windowsOf(file)) {
      for (const kept of selections(window, random, () => false)) {
        states++;
        if (await assertTruthful(contentOf(base, window, kept), before)) valid++;
      }
    }
  }
  assert.ok(states > 300 && valid > 10 && valid < states, `${valid} of ${states} states have a valid bitmap`);
});

async function guestOf(bytes: Uint8Array): Promise<Uint8Array> {
  const memory = new MemoryDevice();
  await memory.write(bytes, 0);
  await using source = await qcow2Format.openSource(memory);
  return await readGuest(source, 0, source.size, nothing);
}

/** Whether the bitmap is valid; it must not be and miss a change. */
async function assertTruthful(bytes: Uint8Array, before: Uint8Array): Promise<boolean> {
  const memory = new MemoryDevice();
  await memory.write(bytes, 0);
  const { corruptions, checkErrors, findings } = await checkImage(memory);
  assert.deepEqual([corruptions, checkErrors], [0, 0], findings.map(({ text }) => text).join('; '));
  await using source = await qcow2Format.openSource(memory);
  const facts = (await bitmapsOf(source)?.list())?.find(({ name }) => name === 'b0');
  assert.ok(facts, 'the bitmap is there');
  if (facts.inconsistent) return false;
  const bitmap = await loaded(source, 'b0');
  const now = await readGuest(source, 0, source.size, nothing);
  for (let at = 0; at < now.length; at += 4096) {
    const changed = Buffer.compare(now.subarray(at, at + 4096), before.subarray(at, at + 4096)) !== 0;
    assert.ok(!changed || bitmap.isDirty(at), `granule at ${at} changed and is clean`);
  }
  return true;
}

const tools = requires('qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo');

/** What QEMU says of a bitmap of an image. */
async function dirtyForQemu(path: string, socket: string, name: string) {
  await using _ = await qemuNbd(path, socket, ['-f', 'qcow2', '-r', '-B', name]);
  const extents = await nbdinfo.map(`nbd+unix:///?socket=${socket}`, `qemu:dirty-bitmap:${name}`);
  return extents.filter(({ type }) => type === 1).map(({ offset, length }) => ({ offset, length }));
}

for (const clusterSize of [512, 4096, 65_536, 2_097_152]) {
  test(`bitmaps go both ways between QEMU and us: clusters of ${clusterSize}`, tools, async () => {
    await using folder = await temporaryFolder();
    const path = folder.file('image.qcow2');
    await qemuImg.create(path, '2M', { options: { cluster_size: clusterSize } });
    await qemuImg.ok('bitmap', '--add', '-g', '4096', path, 'theirs');
    const random = seeded(clusterSize);
    const touched = new Set<number>();
    for (let round = 0; round < 3; round++) {
      const sector = random.below(4000);
      await qemuIo(path, [`write -P ${round + 1} ${sector * 512} 20k`]);
      for (let at = Math.floor(sector / 8); at * 8 < sector + 40; at++) touched.add(at);
      await using file = await openHost(path);
      await using layer = await qcow2Format.open(file);
      if (round === 0) await storeOf(layer).add('ours', { granularity: 4096 });
      for (const granule of await randomChanges(layer, random, 5)) touched.add(granule);
    }
    const dirty = new DirtyBitmap(2 * MiB, 4096);
    for (const granule of touched) dirty.set(granule * 4096, 4096);
    assert.deepEqual(await dirtyForQemu(path, folder.file('s'), 'theirs'), [...dirty.ranges()]);
    await using file = await openHost(path);
    {
      await using source = await qcow2Format.openSource(file);
      assert.deepEqual([...(await loaded(source, 'theirs')).ranges()], [...dirty.ranges()]);
      const ours = await loaded(source, 'ours');
      assert.deepEqual(await dirtyForQemu(path, folder.file('t'), 'ours'), [...ours.ranges()]);
    }
    const { status, report, stderr } = await qemuImg.check(path);
    assert.equal(status, 0, stderr + JSON.stringify(report));
  });
}
