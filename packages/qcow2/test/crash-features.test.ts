/** A power cut at any moment, for images with subclusters, external data files and lazy refcounts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { hasFeature } from '../src/features.ts';
import { readHeader } from '../src/header.ts';
import {
  assertSurvives,
  crashEverywhere,
  type GuestChange,
  randomBatches,
  runChanges,
  type Start,
} from './crash-run.ts';
import { contentOf, windowsOf } from './crash-states.ts';
import { seeded } from './random.ts';

interface Shape extends Omit<CreateQcow2Options, 'size' | 'dataFile'> {
  readonly clusters: number;
  readonly data?: 'plain' | 'raw';
}

async function fresh({ clusters, data, ...shape }: Shape, backed: boolean): Promise<Start> {
  const [memory, file] = [new MemoryDevice(), new MemoryDevice()];
  const backing = backed ? { backing: { name: 'below', format: 'raw' } } : {};
  const dataFile = data && { dataFile: { name: 'data', file, raw: data === 'raw' } };
  const size = clusters * (shape.clusterSize ?? 65_536);
  await createQcow2(memory, { ...shape, size, ...backing, ...dataFile });
  return { bytes: memory.bytes(), backed, ...(data && { data: file.bytes() }) };
}

const subclusters: Shape = { clusterSize: 16_384, clusters: 5, extendedL2: true };
const shapes: readonly (readonly [name: string, shape: Shape, unit: number])[] = [
  ['subclusters', subclusters, 1],
  ['subclusters and lazy refcounts', { ...subclusters, lazyRefcounts: true }, 4],
  ['a data file', { clusterSize: 4096, clusters: 12, data: 'plain' }, 8],
  ['a data file for subclusters', { ...subclusters, data: 'plain' }, 2],
  [
    'a data file and lazy refcounts',
    { clusterSize: 512, clusters: 90, data: 'plain', lazyRefcounts: true },
    1,
  ],
  ['a raw data file', { clusterSize: 4096, clusters: 12, data: 'raw' }, 8],
  ['lazy refcounts', { clusterSize: 512, clusters: 90, refcountBits: 1, lazyRefcounts: true }, 1],
];

for (const [name, shape, unit] of shapes) {
  test(`random changes of an image with ${name} survive a power cut at any moment`, async () => {
    const sectors = (shape.clusters * (shape.clusterSize ?? 65_536)) / 512;
    for (const backed of shape.data === 'raw' ? [false] : [false, true]) {
      for (const seed of [1, 2]) {
        const batches = randomBatches(seeded(seed), sectors, 20, unit);
        const run = await runChanges(await fresh(shape, backed), batches, {
          seed,
          image: { discardHost: seed === 2 },
        });
        await assertSurvives(run, seed, 1200);
      }
    }
  });

  test(`an image with ${name} grows, shrinks and is emptied without harm at any moment`, async () => {
    const sectors = (shape.clusters * (shape.clusterSize ?? 65_536)) / 512;
    const written: GuestChange[] = [{ kind: 'write', from: 1, to: sectors - 2 }];
    const ends: readonly (readonly GuestChange[])[] = [
      [{ kind: 'resize', sectors: sectors * 3 }],
      [{ kind: 'resize', sectors: Math.floor(sectors / 2) + 1 }],
      ...(shape.data === 'raw' ? [] : [[{ kind: 'empty' } as const]]),
    ];
    for (const end of ends) {
      const start = await fresh(shape, shape.data !== 'raw');
      const run = await runChanges(start, [written, [{ kind: 'flush' }], end], { seed: 4 });
      await assertSurvives(run, 4, 600);
    }
  });
}

/** Parts of clusters of an overlay: what is around them is copied up. */
const partial: readonly GuestChange[][] = [
  [{ kind: 'write', from: 3, to: 5 }],
  [{ kind: 'flush' }],
  [{ kind: 'write', from: 20, to: 21 }],
  [{ kind: 'write', from: 40, to: 43 }],
  [{ kind: 'flush' }],
];

test('the crash states show an engine that flushes the data file after the tables that lead into it', async () => {
  const start = await fresh({ clusterSize: 4096, clusters: 12, data: 'plain' }, true);
  const run = await runChanges(start, partial, {
    seed: 1,
    sabotage: (_image, _file, dataFile) => {
      if (dataFile !== undefined) dataFile.ignoresFlushes = true;
    },
  });
  const { faults } = await crashEverywhere(run, 1);
  assert.ok(
    faults.some(({ what }) => what.includes('shows 0 of b5')),
    JSON.stringify(faults.slice(0, 2)),
  );
});

test('the crash states show an engine that defers refcounts without the dirty bit', async () => {
  const start = await fresh({ clusterSize: 4096, clusters: 12, lazyRefcounts: true }, false);
  const run = await runChanges(start, partial, {
    seed: 1,
    sabotage: ({ dirty }) => dirty.isDurable(),
  });
  const { faults } = await crashEverywhere(run, 1);
  assert.ok(
    faults.some(({ what }) => what.startsWith('check')),
    JSON.stringify(faults.slice(0, 2)),
  );
});

test('lazy refcounts stay behind at a flush, with the dirty bit, and are written at last', async () => {
  const start = await fresh({ clusterSize: 4096, clusters: 12, lazyRefcounts: true }, false);
  const run = await runChanges(start, partial, { seed: 1 });
  const header = await readHeader(run.file);
  assert.ok(hasFeature(header, 'dirty'));
  const blocks = run.file.changes.filter(({ offset }) => offset >= 2 * 4096 && offset < 3 * 4096);
  assert.equal(blocks.length, 0, 'the refcount block');
  const windows = windowsOf(run.file);
  const dirtyIn = async (index: number): Promise<boolean> => {
    const memory = new MemoryDevice();
    await memory.write(contentOf(start.bytes, windows[index] ?? assert.fail(), []), 0);
    return hasFeature(await readHeader(memory), 'dirty');
  };
  assert.deepEqual([await dirtyIn(0), await dirtyIn(1)], [false, true], 'it comes with the first flush');
});
