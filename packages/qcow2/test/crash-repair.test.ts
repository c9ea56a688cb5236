/** Power cuts while an image is repaired: the guest loses nothing, and another repair ends what the first began. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '@strata/block';
import { createQcow2 } from '../src/create.ts';
import { readHeader } from '../src/header.ts';
import { qcow2Format } from '../src/layer.ts';
import { repairImage } from '../src/repair.ts';
import { createSnapshot } from '../src/snapshot-changes.ts';
import { contentOf, selections, windowsOf } from './crash-states.ts';
import { faultsIn, stateOf } from './disk-states.ts';
import { apply, nothingBelow, randomChange } from './guest.ts';
import { seeded } from './random.ts';
import { RecordingFile } from './recording.ts';

const CLUSTER = 4096;

/** An image with data and a snapshot. */
async function image(seed: number): Promise<Uint8Array> {
  const memory = new MemoryDevice();
  const random = seeded(seed);
  const size = 40 * CLUSTER;
  await createQcow2(memory, { clusterSize: CLUSTER, size });
  for (let round = 0; round < 2; round++) {
    const layer = await qcow2Format.open(memory);
    const below = nothingBelow(size);
    for (let i = 0; i < 8; i++) await apply(layer, randomChange(random, size, CLUSTER), below);
    await layer[Symbol.asyncDispose]();
    if (round === 0)
      await createSnapshot(memory, { name: 'one', dateSeconds: 1_700_000_000, dateNanoseconds: 0 });
  }
  return memory.bytes();
}

interface Places {
  readonly table: number;
  readonly block: number;
  readonly l1: number;
  readonly l2: number;
  readonly snapshots: number;
}

async function placesIn(bytes: Uint8Array): Promise<Places> {
  const file = new MemoryDevice();
  await file.write(bytes, 0);
  const { refcountTableAt, l1At, snapshotsAt } = await readHeader(file);
  const word = (at: number): number =>
    Number(Buffer.from(bytes).readBigUInt64BE(at) & 0x00ff_ffff_ffff_fe00n);
  return {
    table: refcountTableAt,
    block: word(refcountTableAt),
    l1: l1At,
    l2: word(l1At),
    snapshots: snapshotsAt,
  };
}

/** Faults that a repair ends without taking anything from the guest. */
const FAULTS: Readonly<Record<string, (bytes: Buffer, at: Places) => void>> = {
  'leaks and refcounts that are too low': (bytes, { block }) => {
    for (let index = 0; index < 40; index++) {
      const count = bytes.readUInt16BE(block + index * 2);
      if (count > 1) bytes.writeUInt16BE(index % 2 === 0 ? count - 1 : count + 3, block + index * 2);
      else if (count === 0) bytes.writeUInt16BE(index % 3, block + index * 2);
    }
  },
  'flags that are wrong': (bytes, { l1, l2 }) => {
    bytes.writeUInt8((bytes[l1] as number) ^ 0x80, l1);
    for (let index = 0; index < 40; index++) {
      const at = l2 + index * 8;
      if (bytes.readBigUInt64BE(at) > 1n) bytes.writeUInt8((bytes[at] as number) ^ 0x80, at);
    }
  },
  'no refcount block': (bytes, { table }) => {
    bytes.writeBigUInt64BE(0n, table);
  },
  'a refcount block on the table': (bytes, { table }) => {
    bytes.writeBigUInt64BE(BigInt(table), table);
  },
  'an incomplete snapshot table': (bytes, { snapshots }) => {
    // The 24 bytes of extra data become 8, and the name what follows them.
    bytes.writeUInt32BE(8, snapshots + 36);
    bytes.copy(bytes, snapshots + 48, snapshots + 64, snapshots + 68);
  },
};

for (const [title, spoil] of Object.entries(FAULTS)) {
  test(`a power cut during the repair of ${title} harms nobody`, async () => {
    let states = 0;
    for (const seed of [1, 2]) {
      const start = Buffer.from(await image(seed));
      spoil(start, await placesIn(start));
      assert.notDeepEqual(await faultsIn(start, { leaks: true }), [], 'it is damaged');
      const guest = await stateOf(start);
      const memory = new MemoryDevice();
      await memory.write(start, 0);
      const file = new RecordingFile(memory);
      await repairImage(file, 'all');
      assert.deepEqual(await faultsIn(memory.bytes(), { leaks: true }), [], title);
      assert.deepEqual(await stateOf(memory.bytes()), guest);
      const random = seeded(seed);
      for (const window of windowsOf(file)) {
        for (const kept of selections(window, random, () => random.below(2) === 0)) {
          states++;
          const bytes = contentOf(start, window, kept);
          assert.deepEqual(await stateOf(bytes), guest, `${title}: what the guest sees`);
          const again = new MemoryDevice();
          await again.write(bytes, 0);
          await repairImage(again, 'all');
          assert.deepEqual(await faultsIn(again.bytes(), { leaks: true }), [], `${title}: repaired again`);
          assert.deepEqual(await stateOf(again.bytes()), guest, `${title}: what the guest sees then`);
        }
      }
    }
    assert.ok(states >= 8, `${states} states`);
  });
}
