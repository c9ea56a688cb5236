/**
 * The laws of every disk, each a check that rejects if the disk breaks it.
 *
 * They read like the contract in block/src/device.ts, one law for each of its sentences. A disk comes to a
 * law fresh, with bytes of its own choice on it.
 */
import assert from 'node:assert/strict';
import { type BlockDevice, isDiskError } from '@strata/block';
import { type Random, randomFrom } from './random.ts';
import { anyRange, assertBytes, bytesOf, runModel, scribble } from './random-calls.ts';
import { assertSameBytes } from './same-bytes.ts';

/** A disk under test. */
export interface BlockSubject extends AsyncDisposable {
  readonly device: BlockDevice;
  /** Closes the disk and opens it again. Undefined: nothing of it outlives its closing. */
  readonly reopen?: () => Promise<BlockDevice>;
  /** What a backing image has here: a discard must not bring it out again. */
  readonly below?: Uint8Array;
}

/** A law: what it claims, and the check. */
export interface BlockLaw {
  readonly title: string;
  readonly check: (subject: BlockSubject, random: Random) => Promise<void>;
}

async function extentsOf(device: BlockDevice) {
  const extents = [];
  for (let at = 0; at < device.size; ) {
    const extent = await device.extentAt(at, device.size - at);
    assert.equal(extent.offset, at, 'an extent starts where it was asked for');
    assert.ok(extent.length >= 1 && at + extent.length <= device.size, `${extent.length} bytes at ${at}`);
    extents.push(extent);
    at += extent.length;
  }
  return extents;
}

const isRefusal = (error: unknown): boolean => isDiskError(error, 'not-supported');

/** What disposal must end. */
const CALLS: readonly ((device: BlockDevice) => unknown)[] = [
  (device) => device.read(new Uint8Array(1), 0),
  async (device) => device.tryRead(new Uint8Array(1), 0),
  (device) => device.extentAt(0, 1),
  async (device) => device.tryExtentAt(0, 1),
  (device) => device.write(new Uint8Array(1), 0),
  (device) => device.zero(0, 1),
  (device) => device.discard(0, 1),
  (device) => device.flush(),
];

/** The laws by name; a suite that skips one names it. */
export const BLOCK_LAWS = {
  fills: {
    title: 'a read fills its buffer exactly, at both ends, of one byte and of none',
    async check({ device }, random) {
      const { size } = device;
      const data = random.bytes(size);
      await device.write(data, 0);
      for (const [offset, length] of [
        [0, 1],
        [size - 1, 1],
        [0, 0],
        [size, 0],
        [1, 4095],
        [size - 513, 513],
        [0, size],
      ] as const) {
        const frame = new Uint8Array(length + 2).fill(0xee);
        await device.read(frame.subarray(1, length + 1), offset);
        assertSameBytes(frame.subarray(1, length + 1), data.subarray(offset, offset + length));
        assert.deepEqual([frame[0], frame[length + 1]], [0xee, 0xee], 'bytes outside the buffer');
      }
    },
  },
  twins: {
    title: 'what tryRead and tryExtentAt answer is what read and extentAt answer',
    async check({ device }, random) {
      await scribble(device, random);
      const expected = await bytesOf(device);
      for (let i = 0; i < 60; i++) {
        const { offset, length } = anyRange(random, device.size);
        const into = new Uint8Array(length).fill(0xee);
        if (device.tryRead(into, offset)) {
          assertSameBytes(into, expected.subarray(offset, offset + length));
        }
        if (offset === device.size) continue;
        const found = device.tryExtentAt(offset, length + 1);
        if (found) assert.deepEqual(found, await device.extentAt(offset, length + 1));
      }
    },
  },
  tiling: {
    title: 'extents begin where they were asked for, keep to the limit and tile the disk',
    async check({ device }, random) {
      await scribble(device, random);
      await extentsOf(device);
      for (let i = 0; i < 60; i++) {
        const offset = random.upTo(device.size - 1);
        const limit = 1 + random.upTo(100_000);
        const extent = await device.extentAt(offset, limit);
        assert.equal(extent.offset, offset);
        assert.ok(extent.length >= 1 && extent.length <= Math.min(limit, device.size - offset));
      }
    },
  },
  zeros: {
    title: 'zero extents and holes read as zeros, and depth is 0 exactly for holes',
    async check({ device }, random) {
      await scribble(device, random);
      const bytes = await bytesOf(device);
      for (const { offset, length, kind, depth } of await extentsOf(device)) {
        assert.equal(depth === 0, kind === 'hole', `depth ${depth} of a ${kind}`);
        if (kind === 'data' || kind === 'compressed') continue;
        assert.ok(
          bytes.subarray(offset, offset + length).every((byte) => byte === 0),
          `${kind} at ${offset}`,
        );
      }
    },
  },
  writes: {
    title: 'a write changes its own bytes and no others',
    async check({ device }, random) {
      const expected = await bytesOf(device);
      for (let i = 0; i < 20; i++) {
        const { offset, length } = anyRange(random, device.size);
        const data = random.bytes(length);
        await device.write(data, offset);
        expected.set(data, offset);
        await assertBytes(device, expected, `after a write of ${length} bytes at ${offset}`);
      }
    },
  },
  zeroing: {
    title: 'a zeroed range reads as zeros and nothing else changes; a refusal changes nothing',
    async check({ device }, random) {
      const expected = random.bytes(device.size);
      await device.write(expected, 0);
      for (const how of [{}, { allocate: true }, { fast: true }, { fast: true, allocate: true }]) {
        for (let i = 0; i < 5; i++) {
          const { offset, length } = anyRange(random, device.size);
          try {
            await device.zero(offset, length, how);
            expected.fill(0, offset, offset + length);
          } catch (error) {
            if (!how.fast || !isRefusal(error)) throw error;
          }
          await assertBytes(device, expected, `after zeroing ${length} bytes at ${offset}`);
        }
      }
    },
  },
  discard: {
    title: 'a discarded range reads as its old bytes or zeros, never as a backing image',
    async check({ device, below }, random) {
      const expected = random.bytes(device.size);
      await device.write(expected, 0);
      for (let i = 0; i < 12; i++) {
        const { offset, length } = anyRange(random, device.size);
        await device.discard(offset, length);
        const found = await bytesOf(device);
        found.forEach((byte, at) => {
          if (byte === expected[at]) return;
          const source = byte === below?.[at] ? 'the byte of the image below' : 'a new byte';
          assert.ok(byte === 0 && at >= offset && at < offset + length, `${source} at ${at}`);
        });
        expected.set(found);
      }
    },
  },
  durable: {
    title: 'after a flush a new opening sees everything',
    async check({ device, reopen }, random) {
      assert.ok(reopen, 'the subject cannot be reopened');
      await scribble(device, random);
      const expected = await bytesOf(device);
      await device.flush();
      await assertBytes(await reopen(), expected, 'after reopening');
    },
  },
  range: {
    title: 'a call outside the disk is a RangeError and changes nothing',
    async check({ device }, random) {
      await scribble(device, random);
      const expected = await bytesOf(device);
      const { size } = device;
      const ten = new Uint8Array(10).fill(7);
      for (const offset of [size - 9, size + 1, -1, 0.5, Number.NaN, 2 ** 53]) {
        await assert.rejects(device.read(ten.slice(), offset), RangeError);
        await assert.rejects(device.write(ten, offset), RangeError);
        await assert.rejects(device.zero(offset, 10), RangeError);
        await assert.rejects(device.discard(offset, 10), RangeError);
        assert.throws(() => device.tryRead(ten.slice(), offset), RangeError);
      }
      await assert.rejects(device.extentAt(size, 1), RangeError);
      await assert.rejects(device.extentAt(0, 0), RangeError);
      assert.throws(() => device.tryExtentAt(size, 1), RangeError);
      await assert.rejects(device.zero(0, -1), RangeError);
      await assertBytes(device, expected, 'after refused calls');
    },
  },
  neighbours: {
    title: 'unaligned writes side by side, all at once, all survive',
    async check({ device }, random) {
      const expected = await bytesOf(device);
      const lengths = Array.from({ length: 100 }, () => 1 + random.upTo(900));
      const writes: Promise<void>[] = [];
      let offset = 1 + random.upTo(1000);
      for (const length of lengths) {
        const data = random.bytes(length);
        writes.push(device.write(data, offset));
        expected.set(data, offset);
        offset += length;
      }
      await Promise.all(writes);
      await assertBytes(device, expected, 'after 100 writes at once');
    },
  },
  disposal: {
    title: 'after disposal every call fails with closed; a running read finishes, twice is fine',
    async check({ device }, random) {
      const data = random.bytes(5000);
      await device.write(data, 100);
      const into = new Uint8Array(5000);
      const running = device.read(into, 100);
      const first = device[Symbol.asyncDispose]();
      await running;
      assertSameBytes(into, data);
      await first;
      await device[Symbol.asyncDispose]();
      for (const call of CALLS) {
        await assert.rejects(
          async () => call(device),
          (error) => isDiskError(error, 'closed'),
        );
      }
    },
  },
  model: {
    title: 'random calls leave the bytes that they leave on an array',
    check: ({ device }, random) => runModel(device, random, 500),
  },
} as const satisfies Record<string, BlockLaw>;

/** The name of a law. */
export type BlockLawName = keyof typeof BLOCK_LAWS;

/** The seeds that every suite runs with. */
const SEEDS: readonly number[] = [1, 20260];

/** Runs a law with each seed, on a fresh disk each time. */
export async function checkLaw(law: BlockLaw, open: () => Promise<BlockSubject>): Promise<void> {
  for (const seed of SEEDS) {
    await using subject = await open();
    try {
      await law.check(subject, randomFrom(seed));
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
}
