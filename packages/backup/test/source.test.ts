/** What changed is put together from several bitmaps, as finely as any of them tells. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DirtyRange } from '@strata/bitmap';
import { isDiskError, MemoryDevice } from '@strata/block';
import { type BackupSource, changesOf } from '../src/source.ts';

const size = (1 << 20) + 512;

function source(bitmaps: Readonly<Record<string, readonly DirtyRange[]>>): BackupSource {
  return {
    disk: new MemoryDevice(size),
    name: 'disk',
    frozen: true,
    checkpoint: undefined,
    bitmaps: Object.keys(bitmaps),
    changes: (name) => bitmaps[name] ?? [],
  };
}

test('ranges of several bitmaps are joined, and no byte around them is added', async () => {
  const of = source({
    coarse: [{ offset: 0, length: 65_536 }],
    fine: [
      { offset: 4096, length: 4096 },
      { offset: 69_632, length: 4096 },
    ],
    tail: [{ offset: 1 << 20, length: 512 }],
  });
  const coarse = await changesOf(of, ['coarse', 'tail']);
  assert.equal(coarse.granularity, 65_536);
  assert.deepEqual(
    [...coarse.ranges()],
    [
      { offset: 0, length: 65_536 },
      { offset: 1 << 20, length: 512 },
    ],
  );
  const all = await changesOf(of, ['coarse', 'fine', 'tail']);
  assert.equal(all.granularity, 4096);
  assert.deepEqual(
    [...all.ranges()],
    [
      { offset: 0, length: 65_536 },
      { offset: 69_632, length: 4096 },
      { offset: 1 << 20, length: 512 },
    ],
  );
});

test('a range outside the disk is refused', async () => {
  const of = source({ wild: [{ offset: size - 512, length: 1024 }] });
  await assert.rejects(changesOf(of, ['wild']), (error) => isDiskError(error, 'protocol'));
});
