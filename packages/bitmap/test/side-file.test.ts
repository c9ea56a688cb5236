/** The side file as bytes: what is written is read, and what anybody else wrote is judged. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { isDiskError, MemoryDevice } from '@strata/block';
import { randomFrom } from '@strata/testkit';
import fc from 'fast-check';
import { DirtyBitmap } from '../src/bitmap.ts';
import {
  readSideBitmap,
  readSideId,
  readSideState,
  type SideWriting,
  writeSideFile,
} from '../src/side-file.ts';
import { memoryOf } from './side-world.ts';

const TiB = 2 ** 40;
const room = () => ({ left: 2 ** 28 });

const bitmapOf = (size: number, granularity: number, changes: readonly (readonly [number, number])[]) => {
  const bitmap = new DirtyBitmap(size, granularity);
  for (const [at, length] of changes) {
    const offset = Math.floor(at * size);
    bitmap.set(offset, Math.floor(length * (size - offset)));
  }
  return bitmap;
};

test('bitmaps are read as they were written, with names and states', async () => {
  const part = fc.double({ min: 0, max: 1, noNaN: true });
  const one = fc.record({
    granularity: fc.constantFrom(512, 4096, 2 ** 20, 2 ** 31),
    changes: fc.array(fc.tuple(part, part), { maxLength: 12 }),
    enabled: fc.boolean(),
    inconsistent: fc.boolean(),
  });
  const size = fc.oneof(fc.nat(20_000_000), fc.constantFrom(0, 1, 64 * TiB, Number.MAX_SAFE_INTEGER));
  const property = fc.asyncProperty(
    size,
    fc.array(one, { maxLength: 4 }),
    fc.boolean(),
    async (bytes, given, inUse) => {
      const bitmaps = given.map(({ granularity, changes, enabled, inconsistent }, index): SideWriting => {
        const content = bitmapOf(bytes, granularity, changes);
        return { name: `bitmap ${index} ä`, granularity, enabled, inconsistent, content };
      });
      const file = new MemoryDevice();
      const written = await writeSideFile(file, { inUse, size: bytes, stamp: 'of today' }, bitmaps);
      const state = await readSideState(file);
      assert.deepEqual(state, written);
      assert.equal(await readSideId(file), state.id);
      assert.deepEqual([state.inUse, state.size, state.stamp], [inUse, bytes, 'of today']);
      for (const [index, entry] of state.entries.entries()) {
        const { name, enabled, inconsistent, content } = bitmaps[index] as SideWriting;
        assert.deepEqual([entry.name, entry.enabled, entry.inconsistent], [name, enabled, inconsistent]);
        const read = await readSideBitmap(file, entry, bytes, room());
        assert.deepEqual([...read.ranges()], [...(content as DirtyBitmap).ranges()]);
      }
      const copy = new MemoryDevice();
      const copied = state.entries.map((entry) => ({
        ...entry,
        content: { from: file, content: entry.content },
      }));
      const again = await writeSideFile(copy, { inUse, size: bytes, stamp: 'later' }, copied);
      assert.notEqual(again.id, state.id);
      for (const [index, entry] of again.entries.entries()) {
        const read = await readSideBitmap(copy, entry, bytes, room());
        assert.deepEqual(
          [...read.ranges()],
          [...((bitmaps[index] as SideWriting).content as DirtyBitmap).ranges()],
        );
      }
    },
  );
  await fc.assert(property, { numRuns: 60 });
});

test('an all-dirty bitmap of 64 TiB takes a few bytes', async () => {
  const bitmap = new DirtyBitmap(64 * TiB, 512);
  bitmap.setAll();
  const file = new MemoryDevice();
  const facts = { name: 'b', granularity: 512, enabled: true, inconsistent: false };
  const { entries } = await writeSideFile(file, { inUse: false, size: 64 * TiB, stamp: '' }, [
    { ...facts, content: bitmap },
  ]);
  assert.ok(file.size < 64 * 1024, `${file.size}`);
  const read = await readSideBitmap(file, entries[0] as (typeof entries)[0], 64 * TiB, room());
  assert.equal(read.count, 64 * TiB);
});

/** A file with two bitmaps, as bytes. */
async function sample(): Promise<Uint8Array> {
  const file = new MemoryDevice();
  const size = 50_000_000;
  await writeSideFile(file, { inUse: false, size, stamp: 'stamp' }, [
    {
      name: 'b0',
      granularity: 512,
      enabled: true,
      inconsistent: false,
      content: bitmapOf(size, 512, [
        [0.1, 0.2],
        [0.9, 0.01],
      ]),
    },
    {
      name: 'b1',
      granularity: 4096,
      enabled: false,
      inconsistent: false,
      content: bitmapOf(size, 4096, [[0.5, 1]]),
    },
  ]);
  return file.bytes();
}

/** Reads all of a file; a DiskError is an answer too. */
async function readAll(bytes: Uint8Array, space = 2 ** 20): Promise<string> {
  const file = await memoryOf(bytes);
  try {
    const { size, entries } = await readSideState(file);
    for (const entry of entries) await readSideBitmap(file, entry, size, { left: space });
    return 'read';
  } catch (error) {
    assert.ok(isDiskError(error), String((error as Error).stack));
    return error.code;
  }
}

test('no changed bit goes unnoticed, and none does worse than an error', async () => {
  const bytes = await sample();
  assert.equal(await readAll(bytes), 'read');
  const random = randomFrom(1);
  for (let round = 0; round < 2000; round++) {
    const changed = bytes.slice();
    const at = round < 600 ? round % 60 : random.upTo(bytes.length - 1);
    changed[at] = (changed[at] as number) ^ (1 << random.upTo(7));
    assert.equal(await readAll(changed), 'corrupt', `byte ${at}`);
  }
  for (let length = 0; length < bytes.length; length += 7)
    assert.equal(await readAll(bytes.subarray(0, length)), 'corrupt');
});

/** `bytes` with checksums that are right again. */
function resealed(bytes: Uint8Array): Uint8Array {
  const file = Buffer.from(bytes);
  const at = Number(file.readBigUInt64LE(40));
  if (at <= file.length) file.writeUInt32LE(crc32(file.subarray(at)), 52);
  file.writeUInt32LE(crc32(file.subarray(0, 56)), 56);
  return file;
}

test('lies with right checksums end in an answer, whatever they claim', async () => {
  const bytes = await sample();
  const random = randomFrom(2);
  const seen = new Set<string>();
  for (let round = 0; round < 3000; round++) {
    const changed = Buffer.from(bytes);
    const directoryAt = Number(changed.readBigUInt64LE(40));
    for (let times = 1 + random.upTo(2); times > 0; times--) {
      const at =
        random.upTo(1) === 0
          ? 8 + random.upTo(47)
          : directoryAt + random.upTo(bytes.length - directoryAt - 1);
      const values = [0, 1, 0x7f, 0xff, random.upTo(255)];
      changed[at] = values[random.upTo(values.length - 1)] as number;
    }
    seen.add(await readAll(resealed(changed)));
  }
  for (const answer of ['read', 'corrupt', 'not-supported', 'limit']) assert.ok(seen.has(answer), answer);
});

test('what claims to be more than it may is refused before it is read', async () => {
  const bytes = Buffer.from(await sample());
  const tooMany = Buffer.from(bytes);
  tooMany.writeUInt32LE(65_536, 48);
  assert.equal(await readAll(resealed(tooMany)), 'limit');
  const file = await memoryOf(bytes);
  await file.truncate(9 * 2 ** 20);
  await assert.rejects(readSideState(file), { code: 'limit' });
  assert.equal(await readAll(bytes, 4096), 'limit');
});

test('a directory that nobody would read is not written', async () => {
  const names = Array.from({ length: 9000 }, (_, index) => `${index}`.padEnd(1023, 'x'));
  const bitmaps = names.map((name) => {
    return { name, granularity: 512, enabled: true, inconsistent: true, content: undefined };
  });
  const writing = writeSideFile(new MemoryDevice(), { inUse: false, size: 1, stamp: '' }, bitmaps);
  await assert.rejects(writing, { code: 'limit' });
});
