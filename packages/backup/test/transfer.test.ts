/** A transfer makes the target durable in stretches, says so only afterwards, and grows them where there is nothing to copy. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirtyBitmap } from '@strata/bitmap';
import { DiskError, isDiskError, MemoryDevice, nullDevice, traced } from '@strata/block';
import { ChangedOnly } from '../src/changed-only.ts';
import { transferChanges } from '../src/transfer.ts';

const MiB = 1 << 20;

const plain = { from: 0, targetIsZero: true, unit: 1, parallel: 1 };

test('each note of how far it is comes after a flush that covers what was written before', async () => {
  const source = new MemoryDevice(12 * MiB);
  await source.write(new Uint8Array(12 * MiB).fill(1), 0);
  const changed = new DirtyBitmap(source.size, 65_536);
  changed.setAll();
  const events: string[] = [];
  const target = traced(new MemoryDevice(12 * MiB), ({ phase, call, offset }) => {
    if (phase === 'end' && (call === 'write' || call === 'flush')) events.push(`${call} ${offset / MiB}`);
  });
  await transferChanges(new ChangedOnly(source, changed), target, {
    ...plain,
    stretch: 4 * MiB,
    settled: async (done) => {
      events.push(`done ${done / MiB}`);
    },
  });
  const expected = ['write 0', 'write 2', 'flush 0', 'done 4', 'write 4', 'write 6', 'flush 0', 'done 8'];
  assert.deepEqual(events, [...expected, 'write 8', 'write 10', 'flush 0']);
});

test('an empty disk of 64 TiB takes a few stretches', async () => {
  const size = 2 ** 46;
  const changed = new DirtyBitmap(size, 65_536);
  changed.setAll();
  let steps = 0;
  const progress = (): void => {
    steps++;
  };
  const settled = async (): Promise<void> => assert.fail('nothing was written');
  await transferChanges(new ChangedOnly(nullDevice(size), changed), nullDevice(size), {
    ...plain,
    stretch: 64 * MiB,
    settled,
    progress,
  });
  assert.ok(steps < 1000, `${steps} steps`);
});

test('a failure names the place on the disk', async () => {
  const source = new MemoryDevice(12 * MiB);
  const changed = new DirtyBitmap(source.size, 65_536);
  changed.set(9 * MiB, 65_536);
  await source.write(new Uint8Array(65_536).fill(1), 9 * MiB);
  const target = new MemoryDevice(12 * MiB);
  const full = {
    ...traced(target, () => undefined),
    size: target.size,
    write: async (): Promise<void> => {
      throw new DiskError('no-space', 'No space left on device');
    },
  };
  await assert.rejects(
    transferChanges(new ChangedOnly(source, changed), full, {
      ...plain,
      stretch: 2 * MiB,
      settled: async () => undefined,
    }),
    (error) => isDiskError(error, 'no-space') && error.context.offset === 9 * MiB,
  );
});
