/** A power cut at any moment of a key-slot change: no other slot suffers, and the slot is whole or not in use. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError, MemoryDevice } from '@strata/block';
import { type Random, randomFrom } from '@strata/testkit';
import { changeKeys, type KeyChange } from '../src/amend.ts';
import { openLuks, readHeader, type WritableKeyArea } from '../src/key-slots.ts';
import { newDisk, PASSPHRASE } from './new-disk.ts';

interface Write {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** The writes of a change, in groups: each flush begins a new one. */
async function groupsOf(memory: MemoryDevice, change: KeyChange): Promise<readonly (readonly Write[])[]> {
  const groups: Write[][] = [[]];
  const area: WritableKeyArea = {
    size: memory.size,
    read: (into, offset) => memory.read(into, offset),
    write: async (from, at) => {
      groups.at(-1)?.push({ at, bytes: from.slice() });
      await memory.write(from, at);
    },
    flush: async () => {
      groups.push([]);
    },
  };
  await changeKeys(area, change);
  assert.deepEqual(groups.pop(), [], 'everything is flushed in the end');
  return groups;
}

/** Contents that a cut within the group may leave: each sector of each write is there or not. */
function* cuts(group: readonly Write[], random: Random): Generator<readonly Write[]> {
  const sectors = group.flatMap(({ at, bytes }) =>
    Array.from({ length: Math.ceil(bytes.length / 512) }, (_, i) => ({
      at: at + i * 512,
      bytes: bytes.subarray(i * 512, i * 512 + 512),
    })),
  );
  yield [];
  yield sectors;
  for (const sector of sectors.slice(-3)) {
    yield [sector];
    yield sectors.filter((other) => other !== sector);
  }
  for (let i = 0; i < 6; i++) yield sectors.filter(() => random.upTo(1) === 0);
}

/** Every content of the disk that a cut during the change may leave. */
async function* states(start: MemoryDevice, change: KeyChange): AsyncGenerator<MemoryDevice> {
  const random = randomFrom(11);
  const durable = await copyOf(start);
  for (const group of await groupsOf(await copyOf(start), change)) {
    for (const kept of cuts(group, random)) {
      const state = await copyOf(durable);
      for (const { at, bytes } of kept) await state.write(bytes, at);
      yield state;
    }
    for (const { at, bytes } of group) await durable.write(bytes, at);
  }
  yield durable;
}

async function copyOf(memory: MemoryDevice): Promise<MemoryDevice> {
  const copy = new MemoryDevice(memory.size);
  await copy.write(memory.bytes(), 0);
  return copy;
}

/** What the passphrase makes of a sector of zeros; undefined if it does not open the disk. */
async function seen(memory: MemoryDevice, passphrase: Uint8Array): Promise<string | undefined> {
  try {
    const into = new Uint8Array(512);
    (await openLuks(memory, passphrase)).cipher.encrypt(into, into, 1);
    return Buffer.from(into).toString('hex');
  } catch (error) {
    if (isDiskError(error, 'denied')) return undefined;
    throw error;
  }
}

const CHEAP = { cipherAlg: 'aes-128', cipherMode: 'cbc' };
const SECOND = Buffer.from('second');
const THIRD = Buffer.from('third');
const adding = (slot: number, force = false): KeyChange => ({
  state: 'active',
  passphrase: PASSPHRASE,
  newPassphrase: SECOND,
  iterTime: 1,
  slot,
  force,
});

async function diskWith(slot: number): Promise<MemoryDevice> {
  const memory = await newDisk(512, CHEAP);
  await changeKeys(memory, { ...adding(slot), newPassphrase: THIRD } as KeyChange);
  return memory;
}

// The fields of slot 6 cross the border of two sectors.
for (const slot of [1, 6]) {
  const changes: readonly (readonly [string, KeyChange, Uint8Array])[] = [
    ['adding', adding(slot), SECOND],
    ['erasing', { state: 'inactive', slot }, THIRD],
    ['overwriting', adding(slot, true), SECOND],
  ];
  for (const [what, change, passphrase] of changes) {
    test(`${what} key slot ${slot} survives a power cut at any moment`, async () => {
      const start = what === 'adding' ? await newDisk(512, CHEAP) : await diskWith(slot);
      const expected = await seen(start, PASSPHRASE);
      assert.ok(expected !== undefined);
      const outcomes = new Set<string>();
      let count = 0;
      for await (const state of states(start, change)) {
        count++;
        assert.equal(await seen(state, PASSPHRASE), expected, 'the other slot opens the disk');
        const header = await readHeader(state);
        const isActive = header.slots[slot]?.active === true;
        const opened = (await seen(state, passphrase)) ?? (await seen(state, THIRD));
        outcomes.add(`${isActive} ${opened === expected}`);
      }
      assert.deepEqual([...outcomes].sort(), ['false false', 'true true']);
      assert.ok(count > 20, `${count} states`);
    });
  }
}
