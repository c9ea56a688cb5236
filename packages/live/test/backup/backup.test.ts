/** Backups of disks in use: what they refuse, what they copy, and what a failure leaves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bitmapStoreOf } from '@strata/bitmap';
import { DiskError, isDiskError } from '@strata/block';
import { openWritableChain } from '@strata/chain';
import { assertSameBytes, blockSuite, bytesOf } from '@strata/testkit';
import { type BackupOptions, checkBackup, prepareBackup } from '../../src/backup/backup.ts';
import { LiveDisk } from '../../src/live-disk.ts';
import { nodesOf } from '../../src/nodes.ts';
import { clusterSize, newDisk, size, type TestDisk } from '../live-disks.ts';
import { failing } from '../memory-files.ts';
import { RecordedJobs } from '../run-job.ts';

async function targetOf({ files, names, disk }: TestDisk, name: string, isOver = false): Promise<LiveDisk> {
  await files.create(name, { size, clusterSize, ...(isOver && { backing: disk.top.image.path }) });
  const chain = await openWritableChain(name, { ...files.opening, backing: false });
  return new LiveDisk(nodesOf(chain, names, name), isOver ? disk : undefined);
}

for (const sync of ['full', 'none'] as const) {
  blockSuite({
    name: `a disk while a ${sync} backup of it is taken`,
    open: async () => {
      const subject = await newDisk();
      const { disk, files } = subject;
      const below = await bytesOf(disk);
      const target = await targetOf(subject, 'target', sync === 'none');
      const jobs = new RecordedJobs();
      // It never gets anywhere by itself: guests meet clusters that are still to be copied.
      const job = await jobs.begin(disk, (stop) => prepareBackup({ source: disk, target, sync }, stop), {
        speed: 1,
      });
      let again: AsyncDisposable | undefined;
      const close = async () => {
        if (job.status === 'running') job.cancel();
        await target[Symbol.asyncDispose]();
        await disk[Symbol.asyncDispose]();
      };
      return {
        device: disk,
        below,
        reopen: async () => {
          await close();
          const chain = await openWritableChain('top', files.opening);
          again = chain;
          return chain.device;
        },
        [Symbol.asyncDispose]: async () => {
          await close();
          await again?.[Symbol.asyncDispose]();
        },
      };
    },
    skip:
      sync === 'none'
        ? [{ law: 'disposal', reason: 'the target stands on the disk, and is closed before it' }]
        : [],
  });
}

test('a backup that contradicts itself is refused in the words of QEMU', async () => {
  const subject = await newDisk();
  const { disk, files, names } = subject;
  const target = await targetOf(subject, 'target');
  await files.create('small', { size: size - 512, clusterSize });
  const small = new LiveDisk(nodesOf(await openWritableChain('small', files.opening), names, 'small'));
  const store = bitmapStoreOf(disk.top.image.layer);
  assert.ok(store);
  const bitmap = { store, name: 'b0' };
  const refusals: readonly (readonly [options: Partial<BackupOptions>, message: string])[] = [
    [{ sync: 'incremental' }, "must provide a valid bitmap name for 'incremental' sync mode"],
    [{ sync: 'bitmap' }, "must provide a valid bitmap name for 'bitmap' sync mode"],
    [{ sync: 'bitmap', bitmap }, 'Bitmap sync mode must be given when providing a bitmap'],
    [{ bitmap }, 'Bitmap sync mode must be given when providing a bitmap'],
    [
      { sync: 'incremental', bitmap, bitmapMode: 'never' },
      "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
    ],
    [
      { sync: 'none', bitmap, bitmapMode: 'always' },
      "sync mode 'none' does not produce meaningful bitmap outputs",
    ],
    [{ bitmapMode: 'never' }, 'Cannot specify bitmap sync mode without a bitmap'],
    [
      { bitmap, bitmapMode: 'never' },
      "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'full'",
    ],
    [{ target: small }, 'Source and target image have different sizes'],
    [{ target: disk }, 'Source and target cannot be the same'],
  ];
  for (const [options, message] of refusals)
    assert.throws(() => checkBackup({ source: disk, target, sync: 'full', ...options }), { message });
  await disk.paused(async () => {
    const options = { source: disk, target, sync: 'incremental', bitmap } as const;
    await assert.rejects(
      prepareBackup(options, async () => undefined),
      { message: "Bitmap 'b0' could not be found" },
    );
  });
  disk.checkFree();
  for (const each of [small, target, disk]) await each[Symbol.asyncDispose]();
});

test('a backup of the top copies what the top image holds, by whole clusters', async () => {
  const subject = await newDisk();
  const { disk } = subject;
  await disk.write(new Uint8Array(10).fill(9), 65_536 + 50);
  await disk.write(new Uint8Array(5000).fill(8), size - 5000);
  const bytes = await bytesOf(disk);
  const target = await targetOf(subject, 'target');
  const jobs = new RecordedJobs();
  const job = await jobs.begin(disk, (stop) => prepareBackup({ source: disk, target, sync: 'top' }, stop));
  await job.dismissed;
  assert.equal(job.error, undefined);
  const expected = new Uint8Array(size);
  for (const [from, to] of [
    [65_536, 131_072],
    [196_608, size],
  ] as const)
    expected.set(bytes.subarray(from, to), from);
  assertSameBytes(await bytesOf(target), expected);
  const told = job.facts;
  assert.deepEqual([told.len, told.offset], [65_536 + size - 196_608, 65_536 + size - 196_608]);
  await target[Symbol.asyncDispose]();
  await disk[Symbol.asyncDispose]();
});

test('when the target of fleecing fails, the job ends, guests go on, and nobody reads what is wrong', async () => {
  const subject = await newDisk();
  const { disk, files } = subject;
  let fails = false;
  const full = new DiskError('no-space', 'No space left on device');
  files.through = (file, name) =>
    name === 'target'
      ? failing(file, ({ call }) => (fails && call === 'write' ? { fail: full } : undefined))
      : file;
  const target = await targetOf(subject, 'target', true);
  const jobs = new RecordedJobs();
  const then = await bytesOf(disk);
  const options = { source: disk, target, sync: 'none' } as const;
  const job = await jobs.begin(disk, (stop) => prepareBackup(options, stop));
  await disk.write(new Uint8Array(100).fill(1), 0);
  assertSameBytes(await bytesOf(target), then);
  fails = true;
  await disk.write(new Uint8Array(100).fill(2), 65_536);
  await job.dismissed;
  assert.ok(isDiskError(job.error, 'no-space'));
  assert.deepEqual(jobs.namesOf().slice(-5), [
    ...['BLOCK_JOB_ERROR', 'aborting', 'BLOCK_JOB_COMPLETED', 'concluded', 'null'],
  ]);
  assert.equal((await bytesOf(disk))[65_536], 2);
  assert.equal(target.tryRead(new Uint8Array(1), 0), false);
  await assert.rejects(target.read(new Uint8Array(1), 0), (error) => isDiskError(error, 'io'));
  await assert.rejects(target.extentAt(0, 1), (error) => isDiskError(error, 'io'));
  fails = false;
  disk.checkFree();
  await target[Symbol.asyncDispose]();
  await disk[Symbol.asyncDispose]();
});

test('a source that cannot be read, or a target that cannot be written, fails the backup and not the guests', async () => {
  for (const which of ['top', 'target'] as const) {
    const subject = await newDisk();
    const { disk: first, files, names } = subject;
    await first.write(new Uint8Array(size).fill(5), 0);
    await first[Symbol.asyncDispose]();
    let fails = false;
    const broken = new DiskError('io', 'Input/output error');
    const wanted = which === 'top' ? 'read' : 'write';
    files.through = (file, name) =>
      name === which
        ? failing(file, ({ call }) => (fails && call === wanted ? { fail: broken } : undefined))
        : file;
    const disk = new LiveDisk(nodesOf(await openWritableChain('top', files.opening), names));
    const target = await targetOf({ ...subject, disk }, 'target');
    await disk.write(new Uint8Array(512), 0);
    const jobs = new RecordedJobs();
    fails = true;
    const job = await jobs.begin(disk, (stop) => prepareBackup({ source: disk, target, sync: 'full' }, stop));
    await disk.write(new Uint8Array(65_536).fill(6), 131_072);
    await job.dismissed;
    assert.ok(isDiskError(job.error, 'io'), which);
    const error = jobs.events.find(({ event }) => event === 'BLOCK_JOB_ERROR');
    assert.deepEqual(error?.data, { device: 'j', operation: wanted, action: 'report' });
    fails = false;
    assert.equal((await bytesOf(disk))[131_072], 6);
    await target[Symbol.asyncDispose]();
    await disk[Symbol.asyncDispose]();
  }
});

test('a bitmap is cleared, kept or left with the rest, as its mode says, and keeps what was written meanwhile', async () => {
  const [changed, later] = [
    { offset: 65_536, length: 65_536 },
    { offset: 196_608, length: 4096 },
  ];
  const none: readonly object[] = [];
  for (const [mode, succeeds, expected] of [
    ['on-success', true, [later]],
    ['on-success', false, [changed, later]],
    ['never', true, [changed, later]],
    ['never', false, [changed, later]],
    ['always', true, [later]],
    ['always', false, [changed, later]],
  ] as const) {
    const subject = await newDisk();
    const { disk } = subject;
    const target = await targetOf(subject, 'target');
    const store = bitmapStoreOf(disk.top.image.layer);
    assert.ok(store);
    await store.add('b', { granularity: 4096 });
    await disk.write(new Uint8Array(changed.length).fill(1), changed.offset);
    const jobs = new RecordedJobs();
    const bitmap = { store, name: 'b' };
    const options = { source: disk, target, sync: 'bitmap', bitmap, bitmapMode: mode } as const;
    const job = await jobs.begin(disk, (stop) => prepareBackup(options, stop), { autoFinalize: false });
    await assert.rejects(store.clear('b'), (error) => isDiskError(error, 'busy'));
    await disk.write(new Uint8Array(later.length), later.offset);
    if (!succeeds) job.cancel();
    else {
      while (job.status !== 'pending') await new Promise((resolve) => setImmediate(resolve));
      await job.finalize();
    }
    await job.dismissed;
    assert.deepEqual([...(await store.load('b')).ranges()], expected, `${mode} ${succeeds}`);
    assert.deepEqual(
      (await store.list()).filter(({ busy }) => busy),
      none,
    );
    await target[Symbol.asyncDispose]();
    await disk[Symbol.asyncDispose]();
  }
});

test('a disk of which a backup is taken, and its target, are held, and closing either ends the job', async () => {
  for (const which of ['source', 'target'] as const) {
    const subject = await newDisk();
    const { disk } = subject;
    const target = await targetOf(subject, 'target');
    const jobs = new RecordedJobs();
    const options = { source: disk, target, sync: 'full' } as const;
    const job = await jobs.begin(disk, (stop) => prepareBackup(options, stop), {
      speed: 1,
      autoFinalize: false,
    });
    for (const [held, name] of [
      [disk, 'disk'],
      [target, 'target'],
    ] as const)
      assert.throws(() => held.checkFree(), {
        message: `Node '${name}' is busy: block device is in use by block job: backup`,
      });
    await (which === 'source' ? disk : target)[Symbol.asyncDispose]();
    assert.equal(job.status, 'null');
    await (which === 'source' ? target : disk)[Symbol.asyncDispose]();
  }
});
