import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BlockSource } from '@strata/block';
import { KnownData } from '../../src/server/known-data.ts';
import { testDisk } from './test-disk.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Counts the questions to a disk. */
function counted(source: BlockSource) {
  const limits: number[] = [];
  const counting = Object.create(source, {
    size: { value: source.size },
    tryExtentAt: {
      value: (offset: number, limit: number) => {
        limits.push(limit);
        return source.tryExtentAt(offset, limit);
      },
    },
  }) as BlockSource;
  return { source: counting, limits };
}

test('a range that was found to be data is known, and nothing beyond it', () => {
  const disk = testDisk({ size: MiB });
  disk.setKind(64 * KiB, 64 * KiB, 'data');
  const known = new KnownData();
  assert.equal(known.covers(64 * KiB, 1), false);
  assert.equal(known.learn(disk.device, 64 * KiB, 4 * KiB), true);
  assert.equal(known.covers(64 * KiB, 64 * KiB), true);
  assert.equal(known.covers(64 * KiB - 1, 2), false);
  assert.equal(known.covers(128 * KiB - 1, 2), false);
});

test('ranges that touch are known as one', () => {
  const disk = testDisk({ size: MiB });
  disk.setKind(0, 512 * KiB, 'data');
  const known = new KnownData();
  assert.ok(known.learn(disk.device, 64 * KiB, 4 * KiB));
  assert.ok(known.learn(disk.device, 0, 4 * KiB));
  assert.equal(known.covers(0, 128 * KiB), true);
});

test('zeros and mixtures are not data, and what was known stays known', () => {
  const disk = testDisk({ size: MiB });
  disk.setKind(0, 4 * KiB, 'data');
  const known = new KnownData();
  assert.equal(known.learn(disk.device, 0, 8 * KiB), false);
  assert.equal(known.covers(0, 4 * KiB), true);
  assert.equal(known.learn(disk.device, 4 * KiB, 4 * KiB), false);
  assert.equal(known.covers(0, 4 * KiB), true);
});

test('who reads on is asked further and further ahead, who jumps about pays for short answers only', () => {
  const disk = testDisk({ size: 64 * MiB });
  disk.setKind(0, 64 * MiB, 'data');
  const reads = (64 * MiB) / (4 * KiB);
  const inOrder = counted(disk.device);
  const known = new KnownData();
  for (let at = 0; at < 64 * MiB; at += 4 * KiB) {
    if (!known.covers(at, 4 * KiB)) assert.ok(known.learn(inOrder.source, at, 4 * KiB));
  }
  assert.ok(inOrder.limits.length < 20, `${inOrder.limits.length} questions for ${reads} reads`);

  const jumping = counted(disk.device);
  const little = new KnownData();
  for (let read = 0; read < reads; read++) {
    const at = ((read * 7919) % reads) * 4 * KiB;
    if (!little.covers(at, 4 * KiB)) assert.ok(little.learn(jumping.source, at, 4 * KiB));
  }
  assert.ok(jumping.limits.every((limit) => limit <= 64 * KiB));
});

test('what cannot be told without waiting is not known', () => {
  const disk = testDisk({ slow: true });
  disk.setKind(0, 4 * KiB, 'data');
  assert.equal(new KnownData().learn(disk.device, 0, 1), false);
});
