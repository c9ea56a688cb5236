/** Images whose tables lie: every call ends, with an answer or with a DiskError, and memory stays bounded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError, type Layer, MemoryDevice } from '@strata/block';
import { type CreateQcow2Options, createQcow2 } from '../src/create.ts';
import { qcow2Format } from '../src/layer.ts';
import { apply, nothingBelow, randomChange, readGuest } from './guest.ts';
import { type Random, seeded } from './random.ts';

const SIZE = 100 * 4096;

async function soundImage(options: Omit<CreateQcow2Options, 'size'>): Promise<Uint8Array> {
  const memory = new MemoryDevice();
  await createQcow2(memory, { ...options, size: SIZE });
  const layer = await qcow2Format.open(memory);
  const below = nothingBelow(SIZE);
  const random = seeded(4);
  for (let step = 0; step < 30; step++) await apply(layer, randomChange(random, SIZE, 4096), below);
  await layer[Symbol.asyncDispose]();
  return memory.bytes();
}

/** A word that a table may hold, wrongly: another structure, a flag, an odd place, far away, or anything. */
function lie(random: Random, clusterSize: number): bigint {
  const flags = random.pick([0n, 1n << 63n, 1n << 62n, 1n, (1n << 63n) | 1n, 0x7fn << 56n]);
  const clusters = random.pick([0, 1, 2, 3, 4, 5, 6, 20, 1000, 2 ** 31, 2 ** 39]);
  const place = BigInt(clusters) * BigInt(clusterSize) + random.pick([0n, 0n, 0n, 512n, 7n]);
  return random.pick([flags | place, place, BigInt(random.below(2 ** 53)) << 11n, (1n << 64n) - 1n, 0n]);
}

/** Replaces words of the header's tables and of all clusters before guest data could begin. */
function spoil(image: Uint8Array, random: Random, clusterSize: number): Uint8Array {
  const bytes = Buffer.from(image);
  for (let i = random.below(6); i >= 0; i--) {
    const cluster = random.pick([1, 2, 3, 4, 4, 4, 5, 6, 64, 65]);
    const at = cluster * clusterSize + 8 * random.below(random.pick([4, 64, clusterSize / 8]));
    if (at + 8 <= bytes.length) bytes.writeBigUInt64BE(BigInt.asUintN(64, lie(random, clusterSize)), at);
  }
  return bytes;
}

async function attempt(call: () => Promise<unknown>, title: string): Promise<void> {
  try {
    await call();
  } catch (error) {
    assert.ok(isDiskError(error), `${title}: ${error instanceof Error ? error.stack : error}`);
  }
}

async function useAll(layer: Layer, random: Random, title: string): Promise<void> {
  const below = nothingBelow(2 * SIZE);
  for (let step = 0; step < 12; step++) {
    const change = randomChange(random, SIZE, 4096);
    await attempt(() => apply(layer, change, below), title);
    const at = random.below(SIZE - 5000);
    await attempt(() => readGuest(layer, at, 5000), title);
  }
  if (random.below(4) === 0) await attempt(() => layer.resize(2 * SIZE, below), title);
  if (random.below(4) === 0) await attempt(() => layer.empty(), title);
  await attempt(() => layer.flush(), title);
  await attempt(async () => layer[Symbol.asyncDispose](), title);
}

for (const options of [
  { clusterSize: 4096 },
  { clusterSize: 4096, version: 2 },
  { clusterSize: 512, refcountBits: 64 },
] as const) {
  test(`lies in the tables of ${JSON.stringify(options)} end in answers and DiskErrors`, async () => {
    const image = await soundImage(options);
    for (let seed = 0; seed < 150; seed++) {
      const random = seeded(seed);
      const title = `${JSON.stringify(options)} seed ${seed}`;
      const memory = new MemoryDevice();
      await memory.write(spoil(image, random, options.clusterSize), 0);
      await attempt(async () => {
        await useAll(await qcow2Format.open(memory), random, title);
      }, title);
    }
  });
}
