/** Commits of images in use: sizes, failures, and power cuts at every write. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError, isDiskError } from '@strata/block';
import { openChain, openWritableChain } from '@strata/chain';
import { assertSameBytes, blockSuite, bytesOf, randomFrom } from '@strata/testkit';
import { prepareCommit } from '../../src/commit/commit.ts';
import { prepareActiveCommit } from '../../src/commit/commit-active.ts';
import type { JobTask } from '../../src/jobs/task.ts';
import type { LiveDisk } from '../../src/live-disk.ts';
import { chainFiles, clusterSize, newDisk, openDisk, size } from '../live-disks.ts';
import { failing, MemoryFiles } from '../memory-files.ts';
import { PowerCuts } from '../power-cut.ts';
import { RecordedJobs } from '../run-job.ts';

type Prepare = (disk: LiveDisk, stop: () => Promise<void>) => Promise<JobTask>;

/** `mid` into `base`, under `top`. */
const between: Prepare = (disk, stop) => prepareCommit({ disk, top: 1, base: 2, backingFile: 'base' }, stop);
/** `top` and `mid` into `base`. */
const active: Prepare = (disk, stop) => prepareActiveCommit({ disk, base: 2 }, stop);

for (const [name, prepare] of [
  ['images under its top are', between],
  ['its top is', active],
] as const) {
  blockSuite({
    name: `a disk while ${name} committed`,
    open: async () => {
      const { disk, files } = await newDisk();
      const below = await bytesOf(disk);
      await new RecordedJobs().begin(disk, (stop) => prepare(disk, stop), { speed: 1 });
      let again: AsyncDisposable | undefined;
      return {
        device: disk,
        below,
        reopen: async () => {
          await disk[Symbol.asyncDispose]();
          const chain = await openWritableChain('top', files.opening);
          again = chain;
          return chain.device;
        },
        [Symbol.asyncDispose]: async () => {
          await disk[Symbol.asyncDispose]();
          await again?.[Symbol.asyncDispose]();
        },
      };
    },
  });
}

/** Images of these sizes, the first at the bottom, each full of its own byte. */
async function ofSizes(sizes: readonly number[]): Promise<MemoryFiles> {
  const files = new MemoryFiles();
  const names = ['base', 'mid', 'top'];
  for (const [index, bytes] of sizes.entries()) {
    const name = names[index] as string;
    await files.create(name, {
      size: bytes,
      clusterSize,
      ...(index > 0 && { backing: names[index - 1] as string }),
    });
    await using chain = await openWritableChain(name, files.opening);
    if (index < 2) await chain.device.write(new Uint8Array(bytes).fill(index + 1), 0);
    else await chain.device.write(new Uint8Array(100).fill(3), 0);
  }
  return files;
}

for (const sizes of [
  [40_960, 81_920, 81_920],
  [81_920, 40_960, 81_920],
  [81_920, 81_920, 40_960],
  [20_480, 40_960, 81_920],
  [81_920, 40_960, 20_480],
]) {
  for (const [name, prepare] of [
    ['between', between],
    ['active', active],
  ] as const) {
    test(`the disk stays as it is when images of ${sizes.join(', ')} bytes are committed (${name})`, async () => {
      const files = await ofSizes(sizes);
      const { disk } = await openDisk(files, 'top');
      const expected = await bytesOf(disk);
      const jobs = new RecordedJobs();
      const job = await jobs.begin(disk, (stop) => prepare(disk, stop));
      if (prepare === active) {
        while (job.status === 'created' || job.status === 'running')
          await new Promise((resolve) => setImmediate(resolve));
        job.complete();
      }
      await job.dismissed;
      assert.equal(job.error, undefined);
      assertSameBytes(await bytesOf(disk), expected);
      const top = disk.top.image.path;
      assert.equal(top, prepare === active ? 'base' : 'top');
      await disk[Symbol.asyncDispose]();
      await using chain = await openChain(top, files.opening);
      assert.equal(chain.images.length, prepare === active ? 1 : 2);
      const found = new Uint8Array(expected.length);
      await chain.source.read(found, 0);
      assertSameBytes(found, expected, 'opened again');
    });
  }
}

test('a commit that cannot write the base, or record it, leaves the disk as it is and the base closed for writing', async () => {
  for (const prepare of [between, active]) {
    for (const which of ['base', 'top']) {
      if (prepare === active && which === 'top') continue;
      const files = await chainFiles(['base', 'mid', 'top']);
      let fails = false;
      const broken = new DiskError('io', 'Input/output error');
      files.through = (file, name) =>
        name === which
          ? failing(file, ({ call }) => (fails && call === 'write' ? { fail: broken } : undefined))
          : file;
      const { disk } = await openDisk(files, 'top');
      const expected = await bytesOf(disk);
      const jobs = new RecordedJobs();
      const job = await jobs.begin(disk, (stop) => prepare(disk, stop), {
        atStart: () => {
          fails = true;
        },
      });
      await job.dismissed;
      fails = false;
      assert.ok(isDiskError(job.error, 'io'), String(job.error));
      assertSameBytes(await bytesOf(disk), expected);
      assert.equal(disk.nodes.length, 3);
      disk.checkFree();
      await disk[Symbol.asyncDispose]();
      await using chain = await openChain('top', files.opening);
      assert.equal(chain.images.length, 3);
    }
  }
});

test('a base that somebody else has open is not committed into', async () => {
  const files = await chainFiles(['base', 'mid', 'top']);
  const { disk } = await openDisk(files, 'top');
  const other = await openChain('base', files.opening);
  for (const prepare of [between, active])
    await disk.paused(() =>
      assert.rejects(
        prepare(disk, async () => undefined),
        (error) => isDiskError(error, 'busy'),
      ),
    );
  disk.checkFree();
  assert.deepEqual(files.holdersOf('base'), ['read', 'read']);
  await other[Symbol.asyncDispose]();
  await disk[Symbol.asyncDispose]();
});

/** A guest's write of one sector, and when it was made. */
interface SectorWrite {
  readonly sector: number;
  readonly value: number;
  readonly began: number;
  ended: number;
}

for (const [name, prepare] of [
  ['images under the top are', between],
  ['the top is', active],
] as const) {
  test(`a power cut while ${name} committed leaves the guest's disk in the chain as it is recorded`, async () => {
    let states = 0;
    for (const seed of [1, 2, 3]) {
      const files = await chainFiles(['base', 'mid', 'top'], seed);
      const cuts = new PowerCuts();
      files.through = (file, path) => cuts.file(file, path, files.memories.get(path) ?? assert.fail(path));
      const { disk } = await openDisk(files, 'top');
      const before = await bytesOf(disk);
      const writes: SectorWrite[] = [];
      const flushes: { began: number; ended: number }[] = [];
      const random = randomFrom(seed);
      const guest = async (): Promise<void> => {
        for (let count = 0; count < 12; count++) {
          const [sector, value] = [random.upTo(size / 512 - 1), 1 + random.upTo(254)];
          const write = { sector, value, began: cuts.now(), ended: Number.POSITIVE_INFINITY };
          writes.push(write);
          await disk.write(new Uint8Array(512).fill(value), sector * 512);
          write.ended = cuts.now();
          if (random.upTo(3) > 0) continue;
          const began = cuts.now();
          await disk.flush();
          flushes.push({ began, ended: cuts.now() });
        }
      };
      await guest();
      const job = await new RecordedJobs().begin(disk, (stop) => prepare(disk, stop));
      await guest();
      let pivot = Number.POSITIVE_INFINITY;
      if (prepare === active) {
        while (job.status === 'running') await new Promise((resolve) => setImmediate(resolve));
        job.complete();
      }
      await job.dismissed;
      assert.equal(job.error, undefined);
      if (prepare === active) pivot = cuts.now();
      await guest();
      await disk[Symbol.asyncDispose]();
      for (const { from, to, files: cut } of cuts.states(seed)) {
        const left = new MemoryFiles();
        for (const [path, memory] of cut) left.memories.set(path, memory);
        // From the pivot on the base is the disk.
        await using chain = await openWritableChain(from > pivot ? 'base' : 'top', left.opening);
        await assertGuestSees(await bytesOf(chain.device), before, writes, flushes, from, to);
        states++;
      }
    }
    assert.ok(states > 100, `${states} states`);
  });
}

/** Each sector shows what the last flush covered, or something written after it and before the cut. */
async function assertGuestSees(
  found: Uint8Array,
  before: Uint8Array,
  writes: readonly SectorWrite[],
  flushes: readonly { began: number; ended: number }[],
  from: number,
  to: number,
): Promise<void> {
  const flushed = Math.max(0, ...flushes.filter(({ ended }) => ended <= from).map(({ began }) => began));
  for (let sector = 0; sector * 512 < size; sector++) {
    const own = writes.filter((write) => write.sector === sector && write.began < to);
    const durable = own.filter(({ ended }) => ended < flushed).at(-1);
    const allowed = own.filter((write) => !(write.ended < flushed) || write === durable);
    const bytes = found.subarray(sector * 512, sector * 512 + 512);
    if (allowed.some(({ value }) => bytes.every((byte) => byte === value))) continue;
    const isBefore = Buffer.compare(bytes, before.subarray(sector * 512, sector * 512 + 512)) === 0;
    assert.ok(durable === undefined && isBefore, `sector ${sector} shows ${bytes[0]} after a cut at ${from}`);
  }
}
