/** Bitmaps beside an image: they record, they are kept, and they are never believed where they could be wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError, type Layer, MemoryDevice } from '@strata/block';
import { type Random, randomFrom } from '@strata/testkit';
import { type BitmapFacts, type BitmapStore, bitmapStoreOf, bitmapsOf } from '../src/store.ts';
import { type CutState, cutStates, memoryOf, type SideWorld, sideWorld } from './side-world.ts';

const KiB = 1024;
const size = 300 * KiB + 100;
const granularity = 4 * KiB;
const nothing = new MemoryDevice(size);

async function opened(
  world: SideWorld,
  work: (layer: Layer, bitmaps: BitmapStore) => Promise<unknown>,
): Promise<void> {
  await using layer = await world.format.open(world.host);
  await work(layer, bitmapStoreOf(layer) as BitmapStore);
}

const byte = (layer: Layer, at: number): Promise<void> => layer.write(new Uint8Array(1).fill(1), at, nothing);

async function listed(world: SideWorld): Promise<readonly BitmapFacts[] | undefined> {
  await using source = await world.format.openSource(world.host);
  return bitmapsOf(source)?.list();
}

async function offsetsOf(world: SideWorld, name: string): Promise<readonly number[] | undefined> {
  await using source = await world.format.openSource(world.host);
  const bitmap = await bitmapsOf(source)?.load(name);
  return bitmap && [...bitmap.ranges()].map(({ offset }) => offset);
}

const stateOf = async (world: SideWorld, name: string): Promise<string> => {
  const facts = (await listed(world))?.find((each) => each.name === name);
  return facts === undefined ? 'gone' : facts.inconsistent ? 'inconsistent' : 'valid';
};

test('writes, zeros and discards are recorded, and kept over reopenings', async () => {
  const world = sideWorld(new MemoryDevice(size));
  assert.equal(await listed(world), undefined);
  await opened(world, (_, bitmaps) => bitmaps.add('b0', { granularity }));
  await opened(world, (layer) => byte(layer, 100));
  await opened(world, (layer) => layer.zero(100 * KiB, 10, nothing));
  await opened(world, (layer) => layer.discard(200 * KiB, 10));
  assert.deepEqual(await offsetsOf(world, 'b0'), [0, 100 * KiB, 200 * KiB]);
  assert.deepEqual(await listed(world), [
    { name: 'b0', granularity, enabled: true, inconsistent: false, persistent: true, busy: false },
  ]);
});

test('an image without bitmaps gets no side file by being written', async () => {
  const world = sideWorld(new MemoryDevice(size));
  await opened(world, (layer) => byte(layer, 0));
  assert.deepEqual(
    world.steps.filter(({ kind }) => kind === 'side'),
    [],
  );
});

test('an image that is opened for writing and not written leaves its side file as it is', async () => {
  const world = sideWorld(new MemoryDevice(size));
  await opened(world, (_, bitmaps) => bitmaps.add('b0', { granularity }));
  const { side } = world;
  await opened(world, (layer) => layer.flush());
  assert.equal(world.side, side);
});

test('the side file goes with its last bitmap', async () => {
  const world = sideWorld(new MemoryDevice(size));
  await opened(world, async (_, bitmaps) => {
    await bitmaps.add('b0', { granularity });
    await bitmaps.add('b1', { granularity: 64 * KiB, enabled: false });
  });
  await opened(world, (_, bitmaps) => bitmaps.remove('b0'));
  assert.equal(await stateOf(world, 'b1'), 'valid');
  await opened(world, (_, bitmaps) => bitmaps.remove('b1'));
  assert.equal(world.side, undefined);
});

test('what another program changed makes all bitmaps inconsistent, for good', async () => {
  const world = sideWorld(new MemoryDevice(size));
  await opened(world, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity });
    await bitmaps.add('off', { granularity, enabled: false });
    await byte(layer, 0);
  });
  await world.changeBehind();
  assert.deepEqual(
    [await stateOf(world, 'b0'), await stateOf(world, 'off')],
    ['inconsistent', 'inconsistent'],
  );
  await assert.rejects(offsetsOf(world, 'b0'), /inconsistent/);
  await opened(world, async (layer, bitmaps) => {
    await assert.rejects(bitmaps.clear('b0'), /inconsistent/);
    await bitmaps.add('new', { granularity });
    await byte(layer, 50 * KiB);
    await layer.resize(size + KiB, new MemoryDevice(size + KiB));
  });
  assert.deepEqual(
    [await stateOf(world, 'b0'), await stateOf(world, 'off'), await stateOf(world, 'new')],
    ['inconsistent', 'inconsistent', 'valid'],
  );
  assert.deepEqual(await offsetsOf(world, 'new'), [48 * KiB]);
});

test('another size of the disk makes them inconsistent, whatever the stamp says', async () => {
  const world = sideWorld(new MemoryDevice(size), undefined, () => 'always the same');
  await opened(world, (_, bitmaps) => bitmaps.add('b0', { granularity }));
  await world.image.truncate(size + 512);
  assert.equal(await stateOf(world, 'b0'), 'inconsistent');
});

test('bitmaps follow the size of the disk', async () => {
  const world = sideWorld(new MemoryDevice(size));
  const larger = new MemoryDevice(2 * size);
  await opened(world, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity });
    await byte(layer, size - 1);
    await layer.resize(2 * size, larger);
    await byte(layer, 2 * size - 1);
  });
  assert.equal((await offsetsOf(world, 'b0'))?.length, 2);
  await opened(world, (layer) => layer.resize(size - 10_000, larger));
  assert.deepEqual(await offsetsOf(world, 'b0'), []);
});

test('somebody else who replaced the side file meanwhile is not written over', async () => {
  const world = sideWorld(new MemoryDevice(size));
  await opened(world, (_, bitmaps) => bitmaps.add('b0', { granularity }));
  const before = world.side;
  await opened(world, (_, bitmaps) => bitmaps.rename('b0', 'b1'));
  const other = world.side;
  world.side = before;
  const layer = await world.format.open(world.host);
  world.side = other;
  const busy = (error: unknown): boolean => isDiskError(error, 'busy');
  await assert.rejects(byte(layer, 0), busy);
  await layer[Symbol.asyncDispose]();
  assert.equal(world.side, other);

  const first = await world.format.open(world.host);
  await byte(first, 0);
  await opened(world, (second) => byte(second, 100 * KiB));
  await assert.rejects(async () => first[Symbol.asyncDispose](), busy);
  assert.equal(await stateOf(world, 'b1'), 'inconsistent');
});

test('an image of which nobody can tell whether it was changed has bitmaps in memory only', async () => {
  const world = sideWorld(new MemoryDevice(size));
  const host = { ...world.host, size, stamp: async () => undefined, seal: async () => undefined };
  await using layer = await world.format.open(host);
  const bitmaps = bitmapStoreOf(layer) as BitmapStore;
  await assert.rejects(bitmaps.add('b0', { granularity }), (error) => isDiskError(error, 'not-supported'));
  await bitmaps.add('passing', { granularity, persistent: false });
  await byte(layer, 0);
  assert.equal((await bitmaps.load('passing')).count, granularity);
});

test('a side file that is damaged is told, and the image is not written past it', async () => {
  const world = sideWorld(new MemoryDevice(size));
  await opened(world, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity });
    await byte(layer, 0);
  });
  (world.side as Uint8Array)[20] = 0xaa;
  await assert.rejects(listed(world), (error) => isDiskError(error, 'corrupt'));
  await assert.rejects(
    opened(world, (layer) => byte(layer, 0)),
    (error) => isDiskError(error, 'corrupt'),
  );
});

/** Random changes; every one gives its range another content. */
async function randomChanges(layer: Layer, random: Random, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const at = random.upTo(size - 2);
    const length = 1 + random.upTo(Math.min(30_000, size - at - 1) - 1);
    const kind = random.upTo(4);
    if (kind === 0) await layer.zero(at, length, nothing);
    else await layer.write(random.bytes(length), at, nothing);
    if (random.upTo(3) === 0) await layer.flush();
  }
}

/** A session of `run`, and every state that a power cut in it may leave. */
async function statesOf(
  start: CutState,
  run: (layer: Layer, bitmaps: BitmapStore) => Promise<unknown>,
  ignoreMark = false,
): Promise<readonly CutState[]> {
  const world = sideWorld(await memoryOf(start.image), start.side, () => 'as it was');
  const { replace } = world.place;
  let isFirst = true;
  if (ignoreMark) {
    Object.assign(world.place, {
      replace: async (write: Parameters<typeof replace>[0]) => {
        const marked = world.side;
        await replace(write);
        if (isFirst) world.steps.pop();
        if (isFirst) world.steps.push({ kind: 'side', bytes: marked });
        isFirst = false;
      },
    });
  }
  await opened(world, run);
  return [...cutStates(start, world.steps, 7)];
}

/** Whether the bitmap is valid; it must be there, and not be valid and miss a change. */
async function judge(
  { image, side }: CutState,
  before: Uint8Array,
): Promise<'valid' | 'inconsistent' | 'wrong'> {
  // At its worst the host loses all times of changes: only the mark tells.
  const world = sideWorld(await memoryOf(image), side, () => 'as it was');
  const state = await stateOf(world, 'b0');
  assert.notEqual(state, 'gone');
  if (state === 'inconsistent') return 'inconsistent';
  await using source = await world.format.openSource(world.host);
  const bitmap = await bitmapsOf(source)?.load('b0');
  assert.ok(bitmap);
  for (let at = 0; at < size; at += granularity) {
    const end = Math.min(at + granularity, size);
    const changed = Buffer.compare(image.subarray(at, end), before.subarray(at, end)) !== 0;
    if (changed && !bitmap.isDirty(at)) return 'wrong';
  }
  return 'valid';
}

const session = async (layer: Layer, bitmaps: BitmapStore): Promise<void> => {
  const random = randomFrom(11);
  await randomChanges(layer, random, 5);
  await bitmaps.add('b1', { granularity: 512 });
  await randomChanges(layer, random, 3);
  await bitmaps.rename('b1', 'b2');
  const frozen = await bitmaps.freeze('b0');
  await randomChanges(layer, random, 3);
  await frozen.end(frozen.content);
  await bitmaps.remove('b2');
  await randomChanges(layer, random, 3);
};

async function startState(): Promise<CutState> {
  const world = sideWorld(new MemoryDevice(size), undefined, () => 'as it was');
  await opened(world, async (layer, bitmaps) => {
    await bitmaps.add('b0', { granularity });
    await randomChanges(layer, randomFrom(3), 4);
    await bitmaps.clear('b0');
  });
  return { image: world.image.bytes(), side: world.side };
}

test('after a power cut a bitmap is there, and it is in use or has every granule that changed', async () => {
  const start = await startState();
  const found = { valid: 0, inconsistent: 0, wrong: 0 };
  for (const state of await statesOf(start, session)) found[await judge(state, start.image)]++;
  assert.equal(found.wrong, 0);
  assert.ok(found.valid > 1 && found.inconsistent > 50, JSON.stringify(found));
});

test('a mark that comes too late would be noticed', async () => {
  const start = await startState();
  const verdicts = [];
  for (const state of await statesOf(start, session, true)) verdicts.push(await judge(state, start.image));
  assert.ok(verdicts.includes('wrong'));
});
