/** Copying before writing: each cluster once, before its first change, whoever comes first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirtyBitmap } from '@strata/bitmap';
import { type BlockDevice, MemoryDevice } from '@strata/block';
import { CopyBeforeWrite } from '../../src/backup/copy-before-write.ts';

const cluster = 65_536;
const clusters = 8;

/** A filter whose copies end when the test says so. */
function filter() {
  const remaining = new DirtyBitmap(clusters * cluster, cluster);
  remaining.setAll();
  const log: string[] = [];
  const ends: ((error?: Error) => void)[] = [];
  const failures: unknown[] = [];
  const copies = new CopyBeforeWrite(
    remaining,
    (offset, length) => {
      log.push(`copy ${offset / cluster}+${length / cluster}`);
      return new Promise((resolve, reject) => {
        ends.push((error) => (error === undefined ? resolve() : reject(error)));
      });
    },
    (error) => failures.push(error),
  );
  const memory = new MemoryDevice(clusters * cluster);
  const images: BlockDevice = {
    size: memory.size,
    caps: memory.caps,
    read: (into, offset) => memory.read(into, offset),
    tryRead: (into, offset) => memory.tryRead(into, offset),
    extentAt: (offset, limit) => memory.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => memory.tryExtentAt(offset, limit),
    write: async (from, offset) => {
      log.push(`write ${offset}`);
      await memory.write(from, offset);
    },
    zero: async (offset) => void log.push(`zero ${offset}`),
    discard: async (offset) => void log.push(`discard ${offset}`),
    flush: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
  return { copies, disk: copies.over(images), log, ends, failures, remaining };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('a write waits for the copies of the clusters that it touches, and later ones do not wait again', async () => {
  const { disk, log, ends } = filter();
  const first = disk.write(new Uint8Array(10), cluster - 5);
  await turn();
  assert.deepEqual(log, ['copy 0+2']);
  ends[0]?.();
  await first;
  await disk.write(new Uint8Array(10), 7);
  assert.deepEqual(log, ['copy 0+2', `write ${cluster - 5}`, 'write 7']);
});

test('two writes to one cluster share its copy', async () => {
  const { disk, log, ends } = filter();
  const both = [disk.write(new Uint8Array(1), 0), disk.zero(100, 1), disk.discard(cluster, 1)];
  await turn();
  assert.deepEqual(log, ['copy 0+1', 'copy 1+1']);
  ends[0]?.();
  await Promise.all(both.slice(0, 2));
  assert.deepEqual(log.slice(2).sort(), ['write 0', 'zero 100']);
  ends[1]?.();
  await both[2];
  assert.deepEqual(log.slice(4), [`discard ${cluster}`]);
});

test('a write waits for a copy that the job makes, and the job finds nothing left of what a guest had copied', async () => {
  const { copies, disk, log, ends, remaining } = filter();
  const job = copies.copy(2 * cluster, 3 * cluster);
  const write = disk.write(new Uint8Array(1), 3 * cluster);
  await turn();
  assert.deepEqual(log, ['copy 2+3']);
  ends[0]?.();
  await Promise.all([job, write]);
  assert.deepEqual(
    [...remaining.ranges()].map(({ offset, length }) => [offset / cluster, length / cluster]),
    [
      [0, 2],
      [5, 3],
    ],
  );
});

test('a write over clusters of which some are copied waits for the others only', async () => {
  const { copies, disk, log, ends } = filter();
  const job = copies.copy(cluster, cluster);
  ends[0]?.();
  await job;
  const write = disk.write(new Uint8Array(3 * cluster), 0);
  await turn();
  assert.deepEqual(log, ['copy 1+1', 'copy 0+1', 'copy 2+1']);
  ends[1]?.();
  await turn();
  assert.equal(log.length, 3);
  ends[2]?.();
  await write;
});

test('after a copy has failed guests write on, nothing is copied, and what was not copied is known', async () => {
  const { copies, disk, log, ends, failures, remaining } = filter();
  const write = disk.write(new Uint8Array(1), 0);
  const other = disk.write(new Uint8Array(1), cluster);
  await turn();
  const failure = new Error('full');
  ends[0]?.(failure);
  await turn();
  assert.deepEqual(log, ['copy 0+1', 'copy 1+1'], 'a copy that is under way is waited for');
  ends[1]?.();
  await Promise.all([write, other]);
  assert.deepEqual(failures, [failure]);
  await disk.write(new Uint8Array(1), 5 * cluster);
  assert.deepEqual(log.slice(2).sort(), ['write 0', `write ${5 * cluster}`, `write ${cluster}`]);
  await assert.rejects(copies.copy(5 * cluster, cluster), failure);
  assert.equal(remaining.isDirty(0), true);
  assert.equal(remaining.isDirty(cluster), false);
});
