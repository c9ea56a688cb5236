/** Marking what changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirtyBitmap } from '@strata/bitmap';
import { DiskError, MemoryDevice } from '@strata/block';
import { DirtyFilter } from '../../src/commit/dirty-filter.ts';
import { failing } from '../memory-files.ts';

test('a change is marked when it has been made, and also when it has failed', async () => {
  let fails = false;
  let end = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    end = resolve;
  });
  const file = failing(new MemoryDevice(1 << 20), ({ call }) =>
    call === 'write' ? (fails ? { fail: new DiskError('io', 'no') } : { wait: held }) : undefined,
  );
  const dirty = new DirtyBitmap(1 << 20, 65_536);
  let told = 0;
  const disk = new DirtyFilter(dirty, () => told++).over(file);
  const write = disk.write(new Uint8Array(10), 65_530);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([dirty.count, told], [0, 0], 'a copy that is read before the write has its old bytes');
  end();
  await write;
  assert.deepEqual([dirty.count, told], [131_072, 1]);
  fails = true;
  await assert.rejects(disk.write(new Uint8Array(1), 524_288), DiskError);
  await disk.zero(0, 1);
  await disk.discard(983_040, 1);
  assert.deepEqual(
    [...dirty.ranges()].map(({ offset, length }) => [offset, length]),
    [
      [0, 131_072],
      [524_288, 65_536],
      [983_040, 65_536],
    ],
  );
});
