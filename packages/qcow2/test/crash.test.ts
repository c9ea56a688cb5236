/** A power cut at any moment: what was flushed is there, what was not is old or new, nothing is damaged. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { qemuImg, qemuIo, requires, temporaryFolder } from '@strata/testkit';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { qcow2Format } from '../src/layer.ts';
import {
  assertSurvives,
  crashEverywhere,
  type GuestChange,
  randomBatches,
  runChanges,
  type Start,
} from './crash-run.ts';
import { contentOf, selections, windowsOf } from './crash-states.ts';
import { seeded } from './random.ts';

const SHAPES: readonly (Omit<CreateQcow2Options, 'size'> & { readonly clusters: number })[] = [
  { version: 3, clusterSize: 4096, clusters: 12 },
  { version: 2, clusterSize: 4096, clusters: 12 },
  { version: 3, clusterSize: 512, clusters: 90, refcountBits: 64 },
  { version: 3, clusterSize: 512, clusters: 90, refcountBits: 1 },
  { version: 3, clusterSize: 1024, clusters: 40, lazyRefcounts: true },
];

async function freshImage(options: CreateQcow2Options, backed: boolean): Promise<Start> {
  const file = new MemoryDevice();
  const backing = backed ? { backing: { name: 'below', format: 'raw' } } : {};
  await createQcow2(file, { ...options, ...backing });
  return { bytes: file.bytes(), backed };
}

for (const backed of [false, true]) {
  test(`random changes of an ${backed ? 'overlay' : 'image'} survive a power cut at any moment`, async () => {
    let states = 0;
    for (const [index, { clusters, ...shape }] of SHAPES.entries()) {
      for (let round = 0; round < 3; round++) {
        const seed = index * 100 + round + (backed ? 50 : 0);
        const clusterSize = shape.clusterSize ?? 65_536;
        const start = await freshImage({ ...shape, size: clusters * clusterSize }, backed);
        const sectors = (clusters * clusterSize) / 512;
        const batches = randomBatches(seeded(seed), sectors, 25, clusterSize / 512);
        const run = await runChanges(start, batches, { seed });
        states += await assertSurvives(run, seed);
      }
    }
    assert.ok(states > 5000, `${states} states`);
  });
}

/** An image that QEMU's tools have prepared. */
async function preparedImage(
  options: Readonly<Record<string, string | number>>,
  size: number,
  steps: readonly (readonly ['io' | 'img', ...string[]])[],
): Promise<Start> {
  await using folder = await temporaryFolder();
  const path = folder.file('prepared.qcow2');
  await qemuImg.create(path, size, { options });
  for (const [tool, ...args] of steps) {
    if (tool === 'io') await qemuIo(path, args);
    else await qemuImg.ok(...args, path);
  }
  return { bytes: await readFile(path), backed: false };
}

test(
  'clusters shared with a snapshot survive a power cut at any moment',
  requires('qemu-img', 'qemu-io'),
  async () => {
    // Zeros are written, so that what the guest saw before is one value.
    const prepare = [
      ['io', 'write -P 0 0 32k'],
      ['img', 'snapshot', '-c', 'one'],
    ] as const;
    for (const options of [{ cluster_size: 4096 }, { cluster_size: 512, refcount_bits: 2 }]) {
      const start = await preparedImage(options, 65_536, prepare);
      for (const seed of [1, 2, 3]) {
        const perCluster = options.cluster_size / 512;
        const run = await runChanges(start, randomBatches(seeded(seed), 128, 15, perCluster), { seed });
        await assertSurvives(run, seed);
      }
    }
  },
);

test(
  'compressed clusters are replaced without harm at any moment',
  requires('qemu-img', 'qemu-io'),
  async () => {
    const start = await preparedImage({ cluster_size: 4096 }, 65_536, [['io', 'write -c -P 0 0 64k']]);
    const run = await runChanges(start, randomBatches(seeded(5), 128, 20, 8), { seed: 5 });
    await assertSurvives(run, 5);
  },
);

test('the refcount table moves to a larger place without harm at any moment', async () => {
  // 64 entries lead to blocks of 64 refcounts, for 2 MiB in all; almost as much is in use.
  const options = { version: 3, clusterSize: 512, refcountBits: 64, size: 2 ** 22 } as const;
  const { bytes } = await freshImage(options, false);
  const memory = new MemoryDevice();
  await memory.write(bytes, 0);
  const layer = await qcow2Format.open(memory);
  await layer.zero(0, 3840 * 512, memory, { allocate: true });
  await layer[Symbol.asyncDispose]();
  const tableAt = (await readHeader(memory)).refcountTableAt;
  const start = { bytes: memory.bytes(), backed: false };
  const batches: GuestChange[][] = [];
  for (let from = 4000; from < 4300; from += 60) {
    batches.push([
      { kind: 'write', from, to: from + 30 },
      { kind: 'write', from: from + 30, to: from + 60 },
    ]);
    if (from % 120 === 40) batches.push([{ kind: 'flush' }]);
  }
  const run = await runChanges(start, batches, { seed: 3 });
  assert.notEqual((await readHeader(run.file)).refcountTableAt, tableAt, 'the table has moved');
  await assertSurvives(run, 3, 300);
});

test('a disk that grows is its old or its new size after a power cut, never a mix', async () => {
  for (const [backed, version] of [
    [false, 3],
    [true, 3],
    [false, 2],
    [true, 2],
  ] as const) {
    const size = 5 * 4096 + 1024;
    const start = await freshImage({ version, clusterSize: 4096, size }, backed);
    const batches: GuestChange[][] = [
      [{ kind: 'write', from: 3, to: 9 }],
      [{ kind: 'write', from: 40, to: 42 }],
      [{ kind: 'flush' }],
      [{ kind: 'resize', sectors: 8 * 600 }],
    ];
    const run = await runChanges(start, batches, { seed: 9 });
    await assertSurvives(run, 9);
  }
});

test('a disk that shrinks is its old or its new size after a power cut, and its rest is whole', async () => {
  for (const [clusterSize, refcountBits, backed] of [
    [4096, 16, false],
    [4096, 16, true],
    [512, 64, false],
    [512, 1, true],
  ] as const) {
    const clusters = clusterSize === 512 ? 300 : 24;
    const sectors = (clusters * clusterSize) / 512;
    const start = await freshImage({ version: 3, clusterSize, refcountBits, size: sectors * 512 }, backed);
    const tail = Math.floor(sectors / 3) + 3;
    const batches: GuestChange[][] = [
      ...randomBatches(seeded(41), sectors, 6, clusterSize / 512),
      [{ kind: 'write', from: 1, to: sectors }],
      [{ kind: 'flush' }],
      [{ kind: 'resize', sectors: tail }],
    ];
    const run = await runChanges(start, batches, { seed: 41 });
    assert.ok(run.file.size < (sectors * 512) / 2 + 30 * clusterSize, 'the tail of the file is cut');
    await assertSurvives(run, 41, 1500);
  }
});

test('a disk that grows with its space preallocated survives a power cut at any moment', async () => {
  for (const backed of [false, true]) {
    for (const preallocation of ['metadata', 'falloc', 'full'] as const) {
      const start = await freshImage({ version: 3, clusterSize: 4096, size: 6 * 4096 }, backed);
      const batches: GuestChange[][] = [
        [{ kind: 'write', from: 3, to: 20 }],
        [{ kind: 'discard', from: 0, to: 16 }],
        [{ kind: 'resize', sectors: 8 * 40, preallocation }],
        [{ kind: 'write', from: 30, to: 40 }],
      ];
      await assertSurvives(await runChanges(start, batches, { seed: 13 }), 13, 400);
    }
  }
});

test('an L1 table moves to a larger place without harm at any moment', async () => {
  const start = await freshImage({ version: 3, clusterSize: 512, size: 40 * 512 }, true);
  const batches: GuestChange[][] = [
    [{ kind: 'write', from: 3, to: 9 }],
    [{ kind: 'resize', sectors: 64 * 70 }],
    [{ kind: 'write', from: 20, to: 30 }],
  ];
  const run = await runChanges(start, batches, { seed: 2 });
  assert.ok((await readHeader(run.file)).l1Entries > 64);
  await assertSurvives(run, 2);
});

test('an image being emptied holds all or nothing at any moment', async () => {
  for (const shape of [
    { version: 3, clusterSize: 4096 },
    { version: 2, clusterSize: 4096 },
    { version: 3, clusterSize: 512, refcountBits: 64 },
  ] as const) {
    const start = await freshImage({ ...shape, size: 65_536 }, true);
    const batches: GuestChange[][] = [
      ...randomBatches(seeded(11), 128, 8, shape.clusterSize / 512),
      [{ kind: 'flush' }],
      [{ kind: 'empty' }],
      [{ kind: 'write', from: 5, to: 7 }],
    ];
    await assertSurvives(await runChanges(start, batches, { seed: 11 }), 11);
  }
});

test('punching released clusters out of the file harms nobody at any moment', async () => {
  const start = await freshImage({ version: 3, clusterSize: 4096, size: 65_536 }, true);
  const run = await runChanges(start, randomBatches(seeded(21), 128, 30, 8), {
    seed: 21,
    image: { discardHost: true },
  });
  await assertSurvives(run, 21);
});

test('qemu-img check agrees on contents that a power cut leaves', requires('qemu-img'), async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('cut.qcow2');
  const start = await freshImage({ version: 3, clusterSize: 4096, size: 65_536 }, false);
  const run = await runChanges(start, randomBatches(seeded(31), 128, 20, 8), { seed: 31 });
  const random = seeded(32);
  let judged = 0;
  for (const window of windowsOf(run.file)) {
    const all = [...selections(window, random, () => random.below(2) === 0)];
    for (let i = 0; i < 3; i++, judged++) {
      await writeFile(path, contentOf(start.bytes, window, random.pick(all)));
      const { status, report } = await qemuImg.check(path);
      assert.ok(status === 0 || status === 3, `window ${window.from}: ${JSON.stringify(report)}`);
    }
  }
  assert.ok(judged > 20, `${judged} contents`);
});

const directed: readonly GuestChange[][] = [
  [{ kind: 'write', from: 0, to: 8 }],
  [{ kind: 'flush' }],
  [{ kind: 'zero', from: 0, to: 8 }],
  [{ kind: 'write', from: 32, to: 40 }],
  [{ kind: 'write', from: 40, to: 48 }],
];

test('a cluster that was let go is not used again before that is durable', async () => {
  const start = await freshImage({ version: 3, clusterSize: 4096, size: 16 * 4096 }, false);
  await assertSurvives(await runChanges(start, directed, { seed: 1 }), 1);
});

test('the crash states show an engine that uses such a cluster at once', async () => {
  const start = await freshImage({ version: 3, clusterSize: 4096, size: 16 * 4096 }, false);
  const run = await runChanges(start, directed, {
    seed: 1,
    sabotage: ({ quarantine, refcounts, allocator }) => {
      quarantine.add = (first, count = 1) => {
        refcounts.decrement(first, count);
        allocator.restart(0);
      };
    },
  });
  const { faults } = await crashEverywhere(run, 1);
  assert.ok(
    faults.some(({ what }) => what.includes('shows')),
    JSON.stringify(faults.slice(0, 2)),
  );
});

test('the crash states show an engine that does not flush between its steps', async () => {
  const start = await freshImage({ version: 3, clusterSize: 4096, size: 16 * 4096 }, true);
  const batches = randomBatches(seeded(7), 128, 25, 8);
  const run = await runChanges(start, batches, {
    seed: 7,
    sabotage: (_, file) => {
      file.ignoresFlushes = true;
    },
  });
  const { faults } = await crashEverywhere(run, 7, 2000);
  assert.ok(
    faults.some(({ what }) => what.startsWith('check')),
    'refcounts after what they count',
  );
  assert.ok(
    faults.some(({ what }) => what.includes('shows')),
    'tables before their data',
  );
});
