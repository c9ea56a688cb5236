/** Random changes, several at once and in any order of completion, against an array. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { checkImage } from '../src/check.ts';
import { createQcow2 } from '../src/create.ts';
import { qcow2FormatWith } from '../src/layer.ts';
import {
  apply,
  type Change,
  type CompressedWrite,
  mirror,
  nothingBelow,
  randomChange,
  randomCompressedWrite,
  readGuest,
} from './guest.ts';
import { type Random, seeded } from './random.ts';
import { drive, RecordingFile } from './recording.ts';

const rangeOf = (change: Change | CompressedWrite): readonly [number, number] => {
  if (change.kind === 'flush') return [0, 0];
  const length = 'bytes' in change ? change.bytes.length : change.length;
  return [change.offset, change.offset + length];
};

/** Changes side by side whose bytes do not overlap, though their clusters do. */
function batchOf(
  random: Random,
  size: number,
  unit: number,
  compressed: number | undefined,
): (Change | CompressedWrite)[] {
  const batch: (Change | CompressedWrite)[] = [];
  for (let i = random.below(5); i >= 0; i--) {
    const change =
      compressed !== undefined && random.below(3) === 0
        ? randomCompressedWrite(random, size, compressed)
        : randomChange(random, size, unit, 2 * unit);
    const [from, to] = rangeOf(change);
    if (!batch.some((other) => rangeOf(other)[0] < to && from < rangeOf(other)[1])) batch.push(change);
  }
  return batch;
}

interface Shape {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly backed: boolean;
  readonly extendedL2?: boolean;
  readonly lazyRefcounts?: boolean;
  readonly data?: 'plain' | 'raw';
  /** Some of the writes are compressed, and so. */
  readonly compressionType?: 'zlib' | 'zstd';
}

async function runModel(shape: Shape, seed: number, steps: number): Promise<void> {
  const random = seeded(seed);
  const size = 512 * (100 + random.below(300));
  const memory = new MemoryDevice();
  const backing = shape.backed ? { backing: { name: 'below', format: 'raw' } } : {};
  const { version, clusterSize, refcountBits, extendedL2 = false, compressionType = 'zlib' } = shape;
  const { lazyRefcounts = false, data } = shape;
  const dataMemory = new MemoryDevice();
  const dataFile = data && { dataFile: { name: 'data', file: dataMemory, raw: data === 'raw' } };
  const common = { version, clusterSize, refcountBits, extendedL2, compressionType, size };
  const options = { ...common, lazyRefcounts, ...dataFile };
  await createQcow2(memory, { ...options, ...backing });
  const oracle = new Uint8Array(size);
  const below = nothingBelow(size) as MemoryDevice;
  if (shape.backed) {
    for (let at = 0; at < size; at += 1000) if (random.below(3)) oracle.fill(0x77, at, at + 1000);
    await below.write(oracle, 0);
  }
  const file = new RecordingFile(memory);
  const openDataFile = async () => new RecordingFile(dataMemory, file);
  const format = qcow2FormatWith({
    l2CacheBytes: random.pick([1, 2 ** 20]),
    discardHost: random.below(2) === 0,
  });
  const layer = await format.open(file, { openDataFile });
  file.immediate = false;
  file.cached = random.below(2) === 0;
  const pick = (count: number): number => random.below(count);
  const title = JSON.stringify({ ...shape, seed });

  for (let step = 0; step < steps; step++) {
    const unit = extendedL2 ? random.pick([clusterSize / 32, clusterSize]) : clusterSize;
    const compressed = shape.compressionType === undefined ? undefined : clusterSize;
    const batch = batchOf(random, size, unit, compressed);
    await drive(file, Promise.all(batch.map((change) => apply(layer, change, below))), pick);
    const seen = await readGuest(layer, 0, size, below);
    for (const change of batch) mirror(oracle, change, seen);
    assert.ok(
      Buffer.from(seen).equals(oracle),
      `${title} step ${step} ${JSON.stringify(batch.map(rangeOf))}`,
    );
  }
  await drive(file, Promise.resolve(layer[Symbol.asyncDispose]()), pick);
  const report = await checkImage(memory);
  const found = report.findings[0]?.text;
  assert.deepEqual(
    [report.corruptions, report.leaks, report.checkErrors, found],
    [0, 0, 0, undefined],
    title,
  );
  const again = await format.openSource(memory, { openDataFile: async () => dataMemory });
  assert.ok(Buffer.from(await readGuest(again, 0, size, below)).equals(oracle), `${title} opened again`);
  if (data !== 'raw') return;
  const raw = new Uint8Array(size);
  await dataMemory.read(raw, 0);
  assert.ok(Buffer.from(raw).equals(oracle), `${title}: the data file by itself`);
}

test('an image equals an array after every step, whatever runs side by side', async () => {
  let seed = 0;
  for (const clusterSize of [512, 4096, 65_536]) {
    for (const refcountBits of [1, 16, 64]) {
      for (const backed of [false, true]) {
        await runModel({ version: 3, clusterSize, refcountBits, backed }, ++seed, 40);
        if (refcountBits === 16)
          await runModel({ version: 2, clusterSize, refcountBits, backed }, ++seed, 40);
      }
    }
  }
});

test('an image of subclusters equals an array after every step', async () => {
  let seed = 500;
  for (const clusterSize of [16_384, 65_536]) {
    for (const backed of [false, true]) {
      for (let i = 0; i < 3; i++)
        await runModel({ version: 3, clusterSize, refcountBits: 16, backed, extendedL2: true }, ++seed, 40);
    }
  }
});

test('so it does where some of the writes are compressed', async () => {
  let seed = 1000;
  for (const clusterSize of [512, 4096, 65_536])
    for (const refcountBits of [1, 2, 16])
      for (const backed of [false, true]) {
        const shape = { clusterSize, refcountBits, backed };
        await runModel({ ...shape, version: 3, compressionType: 'zlib' }, ++seed, 30);
        await runModel({ ...shape, version: 3, compressionType: 'zstd' }, ++seed, 20);
        if (refcountBits === 16)
          await runModel({ ...shape, version: 2, compressionType: 'zlib' }, ++seed, 30);
        if (clusterSize === 65_536)
          await runModel({ ...shape, version: 3, compressionType: 'zlib', extendedL2: true }, ++seed, 30);
      }
});

test('an image with a data file, or with lazy refcounts, equals an array after every step', async () => {
  let seed = 700;
  const plain = { version: 3, refcountBits: 16 } as const;
  for (const clusterSize of [512, 16_384]) {
    for (const backed of [false, true]) {
      for (let i = 0; i < 2; i++) {
        const shape = { ...plain, clusterSize, backed };
        await runModel({ ...shape, lazyRefcounts: true }, ++seed, 40);
        await runModel({ ...shape, data: 'plain', extendedL2: clusterSize > 512 && i > 0 }, ++seed, 40);
        if (!backed) await runModel({ ...shape, data: 'raw' }, ++seed, 40);
      }
    }
  }
});

describe('writes that overlap', () => {
  const run = async (random: Random): Promise<void> => {
    const memory = new MemoryDevice();
    await createQcow2(memory, { clusterSize: 512, size: 65_536 });
    const file = new RecordingFile(memory);
    const layer = await qcow2FormatWith({}).open(file);
    const below = nothingBelow(65_536);
    // Some clusters are there before, so that parts of a write go in place and others do not.
    for (let i = 0; i < 20; i++)
      await layer.write(new Uint8Array(512).fill(9), random.below(128) * 512, below);
    file.immediate = false;
    const from = random.below(20_000);
    const length = 2000 + random.below(20_000);
    const writes = [1, 2, 3].map((value) => layer.write(new Uint8Array(length).fill(value), from, below));
    await drive(file, Promise.all(writes), (count) => random.below(count));
    const seen = await readGuest(layer, from, length);
    assert.ok(
      seen.every((byte) => byte === seen[0] && byte !== 9),
      'one of them as a whole',
    );
  };

  test('do not mix, though their parts go to many places', async () => {
    for (let seed = 0; seed < 30; seed++) await run(seeded(seed));
  });

  test('both survive where they are two parts of one new cluster', async () => {
    const memory = new MemoryDevice();
    await createQcow2(memory, { size: 65_536 });
    const file = new RecordingFile(memory);
    const layer = await qcow2FormatWith({}).open(file);
    file.immediate = false;
    const below = nothingBelow(65_536);
    const parts = [0, 1, 2, 3, 4, 5, 6, 7].map((part) =>
      layer.write(new Uint8Array(1111).fill(part + 1), part * 1111, below),
    );
    await drive(file, Promise.all(parts), (count) => count - 1);
    const seen = await readGuest(layer, 0, 65_536);
    seen.forEach((byte, at) => {
      assert.equal(byte, at < 8 * 1111 ? Math.floor(at / 1111) + 1 : 0);
    });
  });
});
