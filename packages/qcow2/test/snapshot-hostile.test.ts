/** Snapshots and repair of images whose tables lie: every call ends, with an answer or with a DiskError. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError, MemoryDevice } from '@strata/block';
import { createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { qcow2Format } from '../src/layer.ts';
import { repairImage } from '../src/repair.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../src/snapshot-changes.ts';
import { apply, nothingBelow, randomChange, readGuest } from './guest.ts';
import { counted } from './host.ts';
import { type Random, seeded } from './random.ts';

const NOW = { dateSeconds: 1_700_000_000, dateNanoseconds: 0 };
const SIZE = 60 * 4096;

/** An image with two snapshots, and the places of its tables. */
async function soundImage(
  clusterSize: number,
): Promise<{ readonly bytes: Uint8Array; readonly places: readonly number[] }> {
  const memory = new MemoryDevice();
  await createQcow2(memory, { clusterSize, size: SIZE });
  const random = seeded(clusterSize);
  for (const name of ['one', 'two', '']) {
    const layer = await qcow2Format.open(memory);
    for (let i = 0; i < 10; i++)
      await apply(layer, randomChange(random, SIZE, clusterSize), nothingBelow(SIZE));
    await layer[Symbol.asyncDispose]();
    if (name !== '') await createSnapshot(memory, { name, ...NOW });
  }
  const bytes = memory.bytes();
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { l1At, refcountTableAt, snapshotsAt } = await readHeader(memory);
  const at = (place: number): number => Number(view.readBigUInt64BE(place) & 0x00ff_ffff_ffff_fe00n);
  const snapshotL1 = at(snapshotsAt);
  const tables = [
    l1At,
    at(l1At),
    refcountTableAt,
    at(refcountTableAt),
    snapshotsAt,
    snapshotL1,
    at(snapshotL1),
  ];
  return { bytes, places: tables.map(Number) };
}

function spoil(memory: Buffer, places: readonly number[], random: Random, clusterSize: number): void {
  for (let i = random.below(4); i >= 0; i--) {
    const place = random.pick(places) + 8 * random.below(random.pick([4, 16, 40]));
    if (place + 8 > memory.length) continue;
    const other = random.pick(places);
    const value = random.pick([
      0n,
      BigInt(other),
      BigInt(other) | (1n << 63n),
      BigInt(random.below(60) * clusterSize) | (1n << 63n),
      BigInt(random.below(2 ** 53)) << 11n,
      (1n << 64n) - 1n,
      memory.readBigUInt64BE(place) ^ (1n << BigInt(random.below(64))),
    ]);
    memory.writeBigUInt64BE(BigInt.asUintN(64, value), place);
  }
}

async function attempt(call: () => Promise<unknown>, title: string): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (error) {
    assert.ok(isDiskError(error), `${title}: ${error instanceof Error ? error.stack : error}`);
    return false;
  }
}

for (const clusterSize of [512, 4096]) {
  test(`lies in tables of ${clusterSize} bytes end in answers and DiskErrors, and a repair ends for good`, async () => {
    const { bytes, places } = await soundImage(clusterSize);
    let done = 0;
    for (let seed = 0; seed < 200; seed++) {
      const random = seeded(seed);
      const title = `${clusterSize}, seed ${seed}`;
      const spoiled = Buffer.from(bytes);
      spoil(spoiled, places, random, clusterSize);
      const memory = new MemoryDevice();
      await memory.write(spoiled, 0);
      const idOrName = random.pick(['1', 'two']);
      const act = random.pick([
        () => createSnapshot(memory, { name: 'new', ...NOW }),
        () => applySnapshot(memory, { idOrName }),
        () => deleteSnapshot(memory, { idOrName }),
        async () => {
          const kept = await qcow2Format.openSource(memory, { snapshot: { idOrName } });
          await readGuest(kept, 0, Math.min(kept.size, 2 ** 24));
        },
      ]);
      if (await attempt(act, title)) done++;
      const scope = random.pick(['leaks', 'all'] as const);
      await attempt(() => repairImage(memory, scope), title);
      await attempt(async () => {
        const { corruptionsFixed, leaksFixed } = await repairImage(memory, scope);
        assert.deepEqual([corruptionsFixed, leaksFixed], [0, 0], title);
      }, title);
    }
    assert.ok(done > 50, `${done} of 200 were done`);
  });
}

test('a snapshot whose L1 table leads to one L2 table four million times is read once', async () => {
  const memory = new MemoryDevice();
  await createQcow2(memory, { size: SIZE });
  const layer = await qcow2Format.open(memory);
  await layer.write(new Uint8Array(1000).fill(1), 0, nothingBelow(SIZE));
  await layer[Symbol.asyncDispose]();
  await createSnapshot(memory, { name: 'one', ...NOW });
  const { snapshotsAt } = await readHeader(memory);
  const entry = Buffer.alloc(40);
  await memory.read(entry, snapshotsAt);
  const l1 = Buffer.alloc(8);
  await memory.read(l1, Number(entry.readBigUInt64BE(0)));
  const bomb = Buffer.alloc(32 * 1024 * 1024);
  for (let at = 0; at < bomb.length; at += 8) l1.copy(bomb, at);
  await memory.write(bomb, 2 ** 24);
  entry.writeBigUInt64BE(BigInt(2 ** 24), 0);
  entry.writeUInt32BE(bomb.length / 8, 8);
  await memory.write(entry, snapshotsAt);
  const watched = counted(memory);
  const host = Object.assign(watched, {
    caps: memory.caps,
    write: (from: Uint8Array, at: number) => memory.write(from, at),
    zero: (at: number, length: number) => memory.zero(at, length),
    discard: (at: number, length: number) => memory.discard(at, length),
    flush: () => memory.flush(),
    truncate: (size: number) => memory.truncate(size),
  });
  for (const change of [applySnapshot, deleteSnapshot])
    await assert.rejects(change(host, { idOrName: 'one' }), { code: /^(corrupt|invalid)$/ });
  assert.ok(watched.bytesRead < 3 * bomb.length, `${watched.bytesRead} bytes read`);
});
