/** Power cuts around a snapshot: what was flushed before and after it is there, in the image that is the top by then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bitmapStoreOf, bitmapsOf } from '@strata/bitmap';
import { openWritableChain } from '@strata/chain';
import { bytesOf, randomFrom } from '@strata/testkit';
import { snapshot } from '../src/snapshot.ts';
import { chainFiles, newOverlay, openDisk, size } from './live-disks.ts';
import { MemoryFiles } from './memory-files.ts';
import { PowerCuts } from './power-cut.ts';

test('what was flushed before and after a snapshot survives a power cut at any moment, and no bitmap is too clean', async () => {
  let states = 0;
  for (const seed of [1, 2, 3]) {
    const files = await chainFiles(['base', 'top'], seed);
    const cuts = new PowerCuts();
    files.through = (file, path) => cuts.file(file, path, files.memories.get(path) ?? assert.fail(path));
    const subject = await openDisk(files, 'top');
    const { disk } = subject;
    await bitmapStoreOf(disk.top.image.layer)?.add('b', { granularity: 4096 });
    const random = randomFrom(seed);
    const durable: { readonly at: number; readonly bytes: Uint8Array }[] = [];
    const dirty = new Set<number>();
    const writeAndFlush = async (isTracked: boolean): Promise<void> => {
      for (let count = 0; count < 3; count++) {
        const sector = random.upTo(size / 512 - 1);
        await disk.write(new Uint8Array(512).fill(1 + random.upTo(200)), sector * 512);
        if (isTracked) dirty.add(Math.floor((sector * 512) / 4096));
        await disk.flush();
        durable.push({ at: cuts.now(), bytes: await bytesOf(disk) });
      }
    };
    durable.push({ at: cuts.now(), bytes: await bytesOf(disk) });
    await writeAndFlush(true);
    const overlay = await newOverlay(subject, 'over');
    // The first flush after the snapshot covers this one, which is in the other file.
    await disk.write(new Uint8Array(512).fill(250), 512);
    dirty.add(0);
    durable.push({ at: Number.POSITIVE_INFINITY, bytes: await bytesOf(disk) });
    const began = cuts.now();
    await snapshot(disk, overlay);
    const made = cuts.now();
    await writeAndFlush(false);
    await disk[Symbol.asyncDispose]();
    for (const { from, to, files: cut } of cuts.states(seed)) {
      const left = new MemoryFiles();
      for (const [path, memory] of cut) left.memories.set(path, memory);
      const isOver = from > made;
      await using chain = await openWritableChain(isOver ? 'over' : 'top', left.opening);
      const found = Buffer.from(await bytesOf(chain.device));
      const last = durable.findLastIndex(({ at }) => at <= from);
      // One write lies between two flushes: if it had begun by then it is there or it is not.
      const begun = durable.findIndex(({ at }) => at >= to && at !== Number.POSITIVE_INFINITY);
      const allowed = durable
        .slice(Math.max(last, 0), begun < 0 ? undefined : begun + 1)
        .map(({ bytes }) => bytes);
      assert.ok(
        allowed.some((bytes) => found.equals(bytes)),
        `seed ${seed}: after a cut between ${from} and ${to}`,
      );
      if (from > began) {
        const image = chain.images.find(({ path }) => path === 'top')?.layer as object;
        const facts = (await bitmapsOf(image)?.list())?.[0];
        if (facts?.inconsistent === false) {
          const bitmap = await bitmapsOf(image)?.load('b');
          for (const granule of dirty) assert.ok(bitmap?.isDirty(granule * 4096), `granule ${granule}`);
        } else assert.ok(facts, 'the bitmap is not lost');
      }
      states++;
    }
  }
  assert.ok(states > 100, `${states} states`);
});
