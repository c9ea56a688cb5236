/** Reads of a target that is completed while it is read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError, MemoryDevice } from '@strata/block';
import { FleecingReads } from '../../src/backup/fleecing.ts';
import { failing } from '../memory-files.ts';

const size = 1 << 20;

test('a change waits for the reads of its range that are under way, and for no others', async () => {
  let end = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    end = resolve;
  });
  const file = failing(new MemoryDevice(size), ({ call, offset }) =>
    call === 'read' && offset < 65_536 ? { wait: held } : undefined,
  );
  const reads = new FleecingReads();
  const disk = reads.over(file);
  const reading = disk.read(new Uint8Array(100), 60_000);
  await reads.readsOf(65_536, 65_536);
  let isDone = false;
  const waiting = reads.readsOf(0, 65_536).then(() => {
    isDone = true;
  });
  await disk.read(new Uint8Array(100), 70_000);
  assert.equal(isDone, false);
  end();
  await Promise.all([reading, waiting]);
  await reads.readsOf(0, size);
});

test('once it is not known any more what the disk was, every read fails, also one under way', async () => {
  let end = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    end = resolve;
  });
  const file = failing(new MemoryDevice(size), ({ call }) => (call === 'read' ? { wait: held } : undefined));
  const reads = new FleecingReads();
  const disk = reads.over(file);
  const under = disk.read(new Uint8Array(1), 0);
  reads.fail(new Error('full'));
  end();
  const isFailure = (error: unknown) => isDiskError(error, 'io') && /full/.test(error.message);
  await assert.rejects(under, isFailure);
  await assert.rejects(disk.read(new Uint8Array(1), 0), isFailure);
  await assert.rejects(disk.extentAt(0, 1), isFailure);
  assert.equal(disk.tryRead(new Uint8Array(1), 0), false);
  assert.equal(disk.tryExtentAt(0, 1), undefined);
});
