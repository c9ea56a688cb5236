/** Guests write all the time while a disk's structure changes: every moment that was kept is what the disk was then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bitmapStoreOf } from '@strata/bitmap';
import { openChain, openWritableChain } from '@strata/chain';
import { assertSameBytes, bytesOf, randomFrom } from '@strata/testkit';
import { prepareBackup } from '../src/backup/backup.ts';
import { prepareCommit } from '../src/commit/commit.ts';
import { prepareActiveCommit } from '../src/commit/commit-active.ts';
import type { Job } from '../src/jobs/job.ts';
import { LiveDisk } from '../src/live-disk.ts';
import { nodesOf } from '../src/nodes.ts';
import { prepareSnapshot } from '../src/snapshot.ts';
import { Guests } from './guests.ts';
import { chainFiles, clusterSize, newOverlay, openDisk, size, type TestDisk } from './live-disks.ts';
import { RecordedJobs } from './run-job.ts';
import { Scheduler } from './scheduler.ts';

/** LIVE_SEEDS=n runs more of them. */
const seeds = Array.from({ length: Number(process.env['LIVE_SEEDS'] ?? 4) }, (_, index) => index + 1);

/** A disk with guests on it, whose files end their calls in an order of the seed's. */
async function withGuests(
  seed: number,
  work: (subject: TestDisk, guests: Guests, jobs: RecordedJobs) => Promise<void>,
): Promise<void> {
  const scheduler = new Scheduler(seed);
  const files = await chainFiles(['base', 'mid', 'top'], seed);
  files.through = (file) => scheduler.file(file);
  const subject = await openDisk(files, 'top');
  const { disk } = subject;
  const guests = new Guests(disk, await bytesOf(disk), seed + 100);
  const jobs = new RecordedJobs();
  try {
    await scheduler.drive(
      (async () => {
        guests.start(3);
        try {
          await guests.working(10);
          await work(subject, guests, jobs);
          await guests.working(10);
        } finally {
          await guests.stop();
        }
        assertSameBytes(await bytesOf(disk), guests.bytes, 'at the end');
      })(),
    );
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
  }
  const top = disk.top.image.path;
  await disk[Symbol.asyncDispose]();
  await assertHolds(subject, top, guests.bytes, `seed ${seed}: opened again`);
}

/** What the chain of the image `name` shows, as it is recorded. */
async function assertHolds(
  { files }: TestDisk,
  name: string,
  expected: Uint8Array,
  what: string,
): Promise<void> {
  await using chain = await openChain(name, files.opening);
  const found = new Uint8Array(expected.length);
  await chain.source.read(found, 0);
  assertSameBytes(found, expected, what);
}

/** A new image as a disk of its own, over `below` if that is given. */
async function targetDisk({ files, names, disk }: TestDisk, name: string, isOver = false): Promise<LiveDisk> {
  const backing = isOver ? { backing: disk.top.image.path } : {};
  await files.create(name, { size, clusterSize, ...backing });
  const chain = await openWritableChain(name, { ...files.opening, backing: false });
  return new LiveDisk(nodesOf(chain, names, name), isOver ? disk : undefined);
}

const ended = async (job: Job): Promise<void> => {
  await job.dismissed;
  assert.equal(job.error, undefined, String(job.error));
};

/** Lets a job catch up with the guests, who write first and then rest until it has. */
async function untilReady(job: Job, guests: Guests): Promise<void> {
  await guests.working(15);
  guests.resting = (async () => {
    while (job.status === 'running') await new Promise((resolve) => setImmediate(resolve));
  })();
  await guests.resting;
  assert.equal(job.status, 'ready', String(job.error));
}

test('each of many snapshots keeps its moment', async () => {
  for (const seed of seeds) {
    const kept: [string, Uint8Array][] = [];
    let at: TestDisk | undefined;
    await withGuests(seed, async (subject, guests) => {
      at = subject;
      for (let count = 0; count < 4; count++) {
        const { path } = subject.disk.top.image;
        const overlay = await newOverlay(subject, `over${count}`);
        await subject.disk.paused(async () => {
          const prepared = await prepareSnapshot(subject.disk, overlay);
          kept.push([path, guests.bytes.slice()]);
          assert.equal(await prepared.commit(), undefined);
        });
        await guests.working(15);
      }
    });
    for (const [path, bytes] of kept) await assertHolds(at as TestDisk, path, bytes, `seed ${seed}: ${path}`);
  }
});

test('a full backup is the disk at the start of the job', async () => {
  for (const seed of seeds) {
    let then: Uint8Array = new Uint8Array(0);
    let at: TestDisk | undefined;
    await withGuests(seed, async (subject, guests, jobs) => {
      at = subject;
      const target = await targetDisk(subject, 'target');
      const options = { source: subject.disk, target, sync: 'full' } as const;
      const job = await jobs.begin(subject.disk, (stop) => prepareBackup(options, stop), {
        atStart: () => {
          then = guests.bytes.slice();
        },
      });
      await ended(job);
      await target[Symbol.asyncDispose]();
    });
    await assertHolds(at as TestDisk, 'target', then, `seed ${seed}: the backup`);
  }
});

test('the target of a fleecing backup shows the start of the job to everybody who reads it, all the time', async () => {
  for (const seed of [...seeds, ...seeds.map((each) => each + seeds.length)]) {
    await withGuests(seed, async (subject, guests, jobs) => {
      const target = await targetDisk(subject, 'target', true);
      let then: Uint8Array = new Uint8Array(0);
      const options = { source: subject.disk, target, sync: 'none' } as const;
      const job = await jobs.begin(subject.disk, (stop) => prepareBackup(options, stop), {
        atStart: () => {
          then = guests.bytes.slice();
        },
      });
      const random = randomFrom(seed);
      const readers = Array.from({ length: 3 }, async () => {
        for (let count = 0; count < 12; count++) {
          const length = 1 + random.upTo(60_000);
          const offset = random.upTo(size - length);
          const found = new Uint8Array(length);
          if (!target.tryRead(found, offset)) await target.read(found, offset);
          assertSameBytes(found, then.subarray(offset, offset + length), `${length} at ${offset}`);
        }
      });
      await Promise.all(readers);
      assertSameBytes(await bytesOf(target), then, 'the whole target');
      job.cancel();
      await job.dismissed;
      await target[Symbol.asyncDispose]();
    });
  }
});

test('a full backup and incremental ones by a bitmap are the disk at the start of each', async () => {
  for (const seed of seeds) {
    const kept: [string, Uint8Array][] = [];
    let at: TestDisk | undefined;
    await withGuests(seed, async (subject, guests, jobs) => {
      at = subject;
      const { disk, files, names } = subject;
      const store = bitmapStoreOf(disk.top.image.layer);
      assert.ok(store);
      for (let count = 0; count < 4; count++) {
        const name = `backup${count}`;
        await files.create(name, { size, clusterSize, ...(count > 0 && { backing: `backup${count - 1}` }) });
        const target = new LiveDisk(nodesOf(await openWritableChain(name, files.opening), names, name));
        const bitmap = { store, name: 'b' };
        const job = await jobs.begin(
          disk,
          async (stop) => {
            // The bitmap begins at the moment of the full backup.
            if (count === 0) await store.add('b', { granularity: 4096 });
            return count === 0
              ? prepareBackup({ source: disk, target, sync: 'full' }, stop)
              : prepareBackup({ source: disk, target, sync: 'incremental', bitmap }, stop);
          },
          { atStart: () => kept.push([name, guests.bytes.slice()]) },
        );
        // One that is cancelled takes nothing out of the bitmap.
        if (count === 2) {
          if (job.status === 'running') job.cancel();
          await job.dismissed;
          if (job.error !== undefined) kept.pop();
          else assert.fail('the job ended before it was cancelled');
        } else await ended(job);
        await target[Symbol.asyncDispose]();
        await guests.working(20);
      }
    });
    assert.ok(kept.length === 3);
    for (const [name, bytes] of kept) await assertHolds(at as TestDisk, name, bytes, `seed ${seed}: ${name}`);
  }
});

test('images under the top are committed while guests write, in every part of the chain', async () => {
  for (const seed of seeds) {
    await withGuests(seed, async (subject, guests, jobs) => {
      const { disk } = subject;
      for (const name of ['one', 'two']) {
        const overlay = await newOverlay(subject, name);
        await disk.paused(async () => (await prepareSnapshot(disk, overlay)).commit());
        await guests.working(15);
      }
      // base mid top one two: an image between, then the rest below the top.
      for (const [top, base, left] of [
        [2, 3, ['two', 'one', 'mid', 'base']],
        [1, 3, ['two', 'base']],
      ] as const) {
        const backingFile = disk.nodes[base]?.image.path as string;
        await ended(await jobs.begin(disk, (stop) => prepareCommit({ disk, top, base, backingFile }, stop)));
        assert.deepEqual(
          disk.nodes.map(({ image }) => image.path),
          left,
        );
        assert.deepEqual(subject.files.holdersOf('base'), ['read']);
        await guests.working(10);
      }
    });
  }
});

test('the top is committed while guests write, and the base becomes the disk', async () => {
  for (const seed of seeds) {
    await withGuests(seed, async ({ disk, files }, guests, jobs) => {
      const job = await jobs.begin(disk, (stop) => prepareActiveCommit({ disk, base: 2 }, stop));
      await untilReady(job, guests);
      await guests.working(20);
      job.complete();
      await ended(job);
      assert.deepEqual(
        disk.nodes.map(({ image }) => image.path),
        ['base'],
      );
      assert.deepEqual([files.holdersOf('base'), files.holdersOf('top')], [['write'], []]);
    });
  }
});

test('a commit of the top that is cancelled, or let go, leaves the disk as it is', async () => {
  for (const force of [true, false]) {
    await withGuests(5, async ({ disk, files }, guests, jobs) => {
      const job = await jobs.begin(disk, (stop) => prepareActiveCommit({ disk, base: 1 }, stop));
      await untilReady(job, guests);
      job.cancel({ force });
      await job.dismissed;
      assert.equal(job.error === undefined, !force);
      assert.deepEqual(
        disk.nodes.map(({ image }) => image.path),
        ['top', 'mid', 'base'],
      );
      assert.deepEqual([files.holdersOf('mid'), files.holdersOf('top')], [['read'], ['write']]);
    });
  }
});
