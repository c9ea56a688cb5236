import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DiskError, MemoryDevice } from '@strata/block';
import { createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { Image } from '../src/image.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { nothingBelow } from './guest.ts';
import { drive, RecordingFile } from './recording.ts';

const SIZE = 2 ** 20;
const below = nothingBelow(SIZE);
const CLUSTER = new Uint8Array(65_536).fill(1);

async function newImage(): Promise<{ image: Image; file: RecordingFile }> {
  const memory = new MemoryDevice();
  await createQcow2(memory, { size: SIZE });
  const file = new RecordingFile(memory);
  return { image: new Image(file, await readHeader(file), {}), file };
}

/** What was written where, and `|` for a flush, since the last time. */
function logOf(file: RecordingFile): string {
  const l1 = 3 * 65_536;
  const name = (offset: number, length: number): string => {
    if (offset < 65_536) return 'header';
    if (offset < 2 * 65_536) return 'reftable';
    if (offset < l1) return 'refcounts';
    if (offset < l1 + 65_536) return 'L1';
    return length === 65_536 && offset === 4 * 65_536 ? 'L2' : offset < 5 * 65_536 ? 'L2 part' : 'data';
  };
  const events = [
    ...file.changes.map(({ began, offset, length }) => ({ began, what: name(offset, length) })),
    ...file.flushes.map(({ began }) => ({ began, what: '|' })),
  ].sort((a, b) => a.began - b.began);
  file.changes.length = 0;
  file.flushes.length = 0;
  return events.map(({ what }) => what).join(' ');
}

describe('a barrier', () => {
  test('writes data and refcounts, then L2, then L1', async () => {
    const { image, file } = await newImage();
    await write(image, CLUSTER, 0, below);
    await image.barrier.run();
    assert.equal(logOf(file), 'data refcounts | L2 | L1 |');
  });

  test('skips what nothing was changed of', async () => {
    const { image, file } = await newImage();
    await write(image, CLUSTER, 0, below);
    await image.barrier.run();
    await write(image, CLUSTER, 131_072, below);
    logOf(file);
    await image.barrier.run();
    assert.equal(logOf(file), 'refcounts | L2 part |');
  });

  test('after overwrites in place is one flush', async () => {
    const { image, file } = await newImage();
    await write(image, CLUSTER, 0, below);
    await image.barrier.run();
    logOf(file);
    await write(image, new Uint8Array(4096), 8192, below);
    await image.barrier.run();
    assert.equal(logOf(file), 'data |');
  });

  test('after it has let go of clusters leaves their refcounts to the next', async () => {
    const { image, file } = await newImage();
    await write(image, CLUSTER, 0, below);
    await image.barrier.run();
    await zero(image, 0, 65_536, below, {});
    logOf(file);
    await image.barrier.run();
    assert.equal(logOf(file), '| L2 part |');
    assert.equal(image.barrier.isNeeded, true);
    await image.barrier.run();
    assert.equal(logOf(file), 'refcounts |');
    assert.equal(image.barrier.isNeeded, false);
  });

  test('does not count a cluster as free before the entry that drops it is durable', async () => {
    const { image, file } = await newImage();
    await write(image, CLUSTER, 0, below);
    await image.barrier.run();
    await zero(image, 0, 65_536, below, {});
    const cluster = 5;
    assert.equal(image.refcounts.peek(cluster), 1);
    file.immediate = false;
    const running = image.barrier.run();
    while (file.changes.at(-1)?.offset !== 4 * 65_536 || file.waiting === 0) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (file.waiting > 0 && file.changes.at(-1)?.offset !== 4 * 65_536) file.endOne(0);
    }
    assert.equal(image.refcounts.peek(cluster), 1, 'the L2 table is being written');
    await drive(file, running, () => 0);
    assert.equal(image.refcounts.peek(cluster), 0);
  });
});

describe('barriers', () => {
  test('asked for while one runs are one', async () => {
    const { image, file } = await newImage();
    await write(image, CLUSTER, 0, below);
    file.immediate = false;
    const first = image.barrier.run();
    const later = [image.barrier.run(), image.barrier.run(), image.barrier.run()];
    assert.equal(new Set(later).size, 1);
    await drive(file, Promise.all([first, ...later]), () => 0);
    assert.equal(file.flushes.length, 4, 'three of the first, one of all others');
  });

  test('asked for while one runs cover what was written meanwhile', async () => {
    const { image, file } = await newImage();
    await write(image, CLUSTER, 0, below);
    file.immediate = false;
    const first = image.barrier.run();
    await drive(file, write(image, CLUSTER, 65_536, below), (count) => count - 1);
    await drive(file, Promise.all([first, image.barrier.run()]), () => 0);
    assert.equal(image.l2.dirtyBytes, 0);
    assert.equal(image.barrier.isNeeded, false);
  });

  test('that fail leave everything to the next', async () => {
    const { image, file } = await newImage();
    await write(image, CLUSTER, 0, below);
    for (const failing of [0, 1, 2]) {
      let flushes = 0;
      file.fault = (kind) =>
        kind === 'flush' && flushes++ === failing ? new DiskError('io', 'no') : undefined;
      await assert.rejects(image.barrier.run(), { code: 'io' });
      assert.equal(image.barrier.isNeeded, true);
    }
    file.fault = () => undefined;
    logOf(file);
    await image.barrier.run();
    assert.equal(logOf(file), 'refcounts | L2 | L1 |');
  });

  test('start by themselves when much waits in memory', async () => {
    const { image } = await newImage();
    assert.equal(image.barrier.relieve(), undefined);
    image.quarantine.add(100, 2 ** 12);
    await assert.rejects(image.barrier.relieve() ?? Promise.resolve(), { code: 'corrupt' });
  });

  test('do not run while a structure is rebuilt', async () => {
    const { image, file } = await newImage();
    const order: string[] = [];
    let finish: (() => void) | undefined;
    const rebuilding = image.barrier.exclusively(async () => {
      order.push('begins');
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      order.push('ends');
    });
    await new Promise<void>((resolve) => setImmediate(resolve));
    const flush = image.barrier.run().then(() => order.push('flushed'));
    await new Promise<void>((resolve) => setImmediate(resolve));
    finish?.();
    await Promise.all([rebuilding, flush]);
    assert.deepEqual(order, ['begins', 'ends', 'flushed']);
    assert.equal(file.flushes.length, 1);
  });
});
