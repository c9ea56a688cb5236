/** A power cut at any moment of an amendment: a sound image, with leaks at most, whose disk and snapshots are as before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { type AmendChanges, type AmendTarget, amendQcow2 } from '../src/amend.ts';
import { checkImage } from '../src/check.ts';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { createSnapshot } from '../src/snapshot-changes.ts';
import { contentOf, selections, windowsOf } from './crash-states.ts';
import { readGuest } from './guest.ts';
import { seeded } from './random.ts';
import { RecordingFile } from './recording.ts';

const CLUSTERS = 70;

interface Shape extends Omit<CreateQcow2Options, 'size' | 'backing'> {
  readonly clusterSize: number;
  readonly backed: boolean;
}

/** An image with data, zero clusters of both kinds, and a snapshot that shares some of them. */
async function prepared({ backed, ...shape }: Shape): Promise<{ memory: MemoryDevice; below: MemoryDevice }> {
  const { clusterSize } = shape;
  const size = CLUSTERS * clusterSize;
  const memory = new MemoryDevice();
  const below = new MemoryDevice(2 * size);
  if (backed) await below.write(new Uint8Array(2 * size).fill(0xbb), 0);
  await createQcow2(memory, { ...shape, size, ...(backed && { backing: { name: 'below', format: 'raw' } }) });
  const change = async (fill: number): Promise<void> => {
    await using layer = await qcow2Format.open(memory);
    const at = fill * 9 * clusterSize;
    await layer.write(new Uint8Array(9 * clusterSize).fill(fill), at, below);
    await layer.zero(at + clusterSize, 2 * clusterSize, below);
    await layer.zero(at + 4 * clusterSize, 2 * clusterSize, below, { allocate: true });
    await layer.zero(0, clusterSize, below);
  };
  await change(1);
  await change(2);
  await createSnapshot(memory, { name: 'one', dateSeconds: 1, dateNanoseconds: 0 });
  await change(3);
  return { memory, below };
}

const snapshot = { idOrName: 'one' };

/** What the guest sees of the disk and of the snapshot. */
async function seen(file: MemoryDevice, below: MemoryDevice): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for (const options of [{}, { snapshot }]) {
    const source = await qcow2Format.openSource(file, options);
    parts.push(await readGuest(source, 0, source.size, below));
  }
  return Buffer.concat(parts);
}

/** Goes through all contents that a power cut may leave, and returns how many there are and what is wrong. */
async function crash(shape: Shape, changes: AmendChanges, ignoresFlushes = false) {
  const { memory, below } = await prepared(shape);
  const start = memory.bytes();
  const before = await seen(memory, below);
  const file = new RecordingFile(memory);
  file.ignoresFlushes = ignoresFlushes;
  const open = async (): Promise<AmendTarget> => {
    const layer = await qcow2Format.open(file);
    return {
      host: file,
      layer,
      below: () => below,
      [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
    };
  };
  await amendQcow2(open, changes);
  assert.ok(before.equals(await seen(memory, below)), 'nothing changed for the guest');
  const random = seeded(7);
  const faults: string[] = [];
  let states = 0;
  for (const window of windowsOf(file)) {
    for (const kept of selections(window, random, () => random.below(2) === 0)) {
      states++;
      const cut = new MemoryDevice();
      await cut.write(contentOf(start, window, kept), 0);
      try {
        const { corruptions, checkErrors, findings } = await checkImage(cut);
        if (corruptions + checkErrors > 0) faults.push(findings.map(({ text }) => text).join('; '));
        else if (!before.equals(await seen(cut, below))) faults.push('the guest sees other bytes');
      } catch (error) {
        faults.push(`not readable: ${error}`);
      }
    }
  }
  return { states, faults };
}

const SHAPES: readonly Shape[] = [
  { version: 3, clusterSize: 4096, backed: true },
  { version: 3, clusterSize: 512, backed: false },
];

const rows: readonly (readonly [title: string, shape: Partial<Shape>, changes: AmendChanges])[] = [
  ['wider refcounts', {}, { refcountBits: 64 }],
  ['narrower refcounts', {}, { refcountBits: 2 }],
  ['version 2', {}, { version: 2 }],
  ['version 3 and narrow refcounts', { version: 2 }, { version: 3, refcountBits: 4, lazyRefcounts: true }],
];

for (const [title, shape, changes] of rows) {
  test(`an image amended to ${title} survives a power cut at any moment`, async () => {
    let all = 0;
    for (const base of SHAPES) {
      const { states, faults } = await crash({ ...base, ...shape }, changes);
      assert.deepEqual(faults.slice(0, 3), [], `${faults.length} of ${states}`);
      all += states;
    }
    assert.ok(all > 20, `${all} states`);
  });
}

test('the crash states show an amendment that does not flush between its steps', async () => {
  const [shape] = SHAPES as [Shape];
  for (const changes of [{ refcountBits: 64 }, { version: 2 }] as const) {
    const { faults } = await crash(shape, changes, true);
    assert.ok(faults.length > 0, JSON.stringify(changes));
  }
});
