/** Snapshots between writes, discards and resizes, against copies of an array. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, requires, run, temporaryFolder } from '@strata/testkit';
import { createQcow2 } from '../src/create.ts';
import { discard } from '../src/discard.ts';
import type { Image } from '../src/image.ts';
import { resize } from '../src/resize.ts';
import * as changes from '../src/snapshot-changes.ts';
import { write } from '../src/write.ts';
import { zero } from '../src/zero.ts';
import { diskText, faultsIn, stateOf } from './disk-states.ts';
import { mirror, nothingBelow, randomChange } from './guest.ts';
import { bytesOf, reopened } from './new-image.ts';
import { type Random, seeded } from './random.ts';
import { drive, type RecordingFile } from './recording.ts';

const NOW = { dateSeconds: 1_700_000_000, dateNanoseconds: 0 };

interface Shape {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
}

interface Subject {
  readonly image: Image;
  readonly file: RecordingFile;
  readonly memory: MemoryDevice;
  disk: Uint8Array;
  readonly kept: Map<string, Uint8Array>;
  count: number;
}

async function step(subject: Subject, random: Random, shape: Shape): Promise<void> {
  const { image, kept } = subject;
  const below = nothingBelow(2 ** 20);
  const names = [...kept.keys()];
  switch (random.below(names.length > 4 ? 12 : 9)) {
    case 0:
    case 1: {
      const name = `s${++subject.count}`;
      await changes.create(image, { name, ...NOW });
      kept.set(name, subject.disk.slice());
      return;
    }
    case 2: {
      if (names.length === 0) return;
      const name = random.pick(names);
      await changes.apply(image, { idOrName: name });
      subject.disk = (kept.get(name) as Uint8Array).slice();
      return;
    }
    case 3:
    case 9:
    case 10:
    case 11: {
      if (names.length === 0) return;
      const name = random.pick(names);
      await changes.remove(image, { id: undefined, name });
      kept.delete(name);
      return;
    }
    case 4: {
      if (shape.version === 2 || random.below(2) === 0) return;
      const size = subject.disk.length + 512 * random.below(40);
      await resize(image, size, below);
      const grown = new Uint8Array(size);
      grown.set(subject.disk);
      subject.disk = grown;
      return;
    }
    default: {
      // Several at a time, in any order of completion.
      const { length } = subject.disk;
      const batch = Array.from({ length: 1 + random.below(4) }, (_, i) => {
        const from = Math.floor((length * i) / 4);
        const change = randomChange(random, Math.floor(length / 4), shape.clusterSize);
        return change.kind === 'flush' ? change : { ...change, offset: change.offset + from };
      });
      await Promise.all(
        batch.map((change) => {
          if (change.kind === 'flush') return image.barrier.run();
          if (change.kind === 'write') return write(image, change.bytes, change.offset, below);
          if (change.kind === 'discard') return discard(image, change.offset, change.length);
          return zero(image, change.offset, change.length, below, { allocate: change.allocate });
        }),
      );
      const seen = await bytesOf(image);
      for (const change of batch) mirror(subject.disk, change, seen);
    }
  }
}

async function runModel(shape: Shape, seed: number, steps: number): Promise<MemoryDevice> {
  const random = seeded(seed);
  const memory = new MemoryDevice();
  const size = 512 * (100 + random.below(200));
  await createQcow2(memory, { ...shape, size });
  const { image, file } = await reopened(memory, { l2CacheBytes: random.pick([1, 2 ** 20]) });
  const subject: Subject = { image, file, memory, disk: new Uint8Array(size), kept: new Map(), count: 0 };
  file.immediate = false;
  const title = JSON.stringify({ ...shape, seed });
  const pick = (count: number): number => random.below(count);
  for (let i = 0; i < steps; i++) {
    await drive(file, step(subject, random, shape), pick);
    const seen = await bytesOf(image);
    assert.ok(Buffer.from(seen).equals(subject.disk), `${title} step ${i}`);
  }
  await drive(file, image.close(), pick);
  assert.deepEqual(await faultsIn(memory.bytes(), { leaks: true }), [], title);
  const { disk, snapshots } = await stateOf(memory.bytes());
  assert.ok(disk === diskText(subject.disk), `${title} opened again`);
  const texts = [...subject.kept].map(([name, bytes]) => [name, bytes.length, bytes] as const);
  assert.equal(snapshots.length, texts.length);
  for (const [index, [name, length, bytes]] of texts.entries()) {
    const shown = diskText(bytes.subarray(0, Math.min(length, subject.disk.length)));
    assert.ok(snapshots[index]?.endsWith(` ${name} ${length} ${shown}`), `${title} ${name}`);
  }
  return memory;
}

test('a disk and its snapshots equal arrays after every step', async () => {
  let seed = 0;
  for (const clusterSize of [512, 4096, 65_536]) {
    for (const refcountBits of [8, 16, 64]) {
      await runModel({ version: 3, clusterSize, refcountBits }, ++seed, 60);
      if (refcountBits === 16) await runModel({ version: 2, clusterSize, refcountBits }, ++seed, 60);
    }
  }
});

test('qemu-img check finds nothing in what comes of it', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('model.qcow2');
  for (const seed of [101, 102, 103]) {
    const memory = await runModel({ version: 3, clusterSize: 4096, refcountBits: 16 }, seed, 60);
    await writeFile(path, memory.bytes());
    const { status, stdout } = await run('qemu-img', ['check', path]);
    assert.equal(status, 0, `${seed}: ${stdout}`);
    // QEMU makes room for one more, and drops them all.
    await qemuImg.ok('snapshot', '-c', 'more', path);
    for (const line of (await run('qemu-img', ['snapshot', '-l', path])).stdout.split('\n').slice(2)) {
      const name = line.split(/\s+/)[1];
      if (name) await qemuImg.ok('snapshot', '-d', name, path);
    }
    assert.equal((await run('qemu-img', ['check', path])).status, 0, `${seed} emptied`);
  }
});
