/** A commit of the top while it changes: of two copies of one range the newer is the last. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf } from '@strata/testkit';
import { prepareActiveCommit } from '../../src/commit/commit-active.ts';
import { chainFiles, openDisk } from '../live-disks.ts';
import { failing } from '../memory-files.ts';
import { RecordedJobs } from '../run-job.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('a copy that is slow does not come after a newer one of the same bytes', async () => {
  const files = await chainFiles(['base', 'top']);
  let end = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    end = resolve;
  });
  let isHeld = false;
  let isJob = false;
  files.through = (file, name) => {
    if (name !== 'top') return file;
    const read: typeof file.read = async (into, offset) => {
      await file.read(into, offset);
      if (!isJob || isHeld || into.length < 65_536) return;
      isHeld = true;
      await held;
    };
    return Object.assign(
      failing(file, () => undefined),
      { read },
    );
  };
  const { disk } = await openDisk(files, 'top');
  for (const at of [0, 131_072]) await disk.write(new Uint8Array(65_536).fill(1), at);
  const prepare = (stop: () => Promise<void>) => prepareActiveCommit({ disk, base: 1 }, stop);
  // So slow that the guest comes between the first piece and the second.
  const job = await new RecordedJobs().begin(disk, prepare, {
    speed: 1 << 21,
    atStart: () => {
      isJob = true;
    },
  });
  while (!isHeld) await turn();
  await disk.write(new Uint8Array(65_536).fill(2), 0);
  // Time for a second copy to overtake the first, if it were allowed to: it is not, however long it has.
  await new Promise((resolve) => setTimeout(resolve, 200));
  end();
  while (job.status === 'running') await turn();
  assert.equal(job.status, 'ready');
  job.complete();
  await job.dismissed;
  assert.equal(disk.top.image.path, 'base');
  assert.deepEqual(new Set((await bytesOf(disk)).subarray(0, 65_536)), new Set([2]));
  await disk[Symbol.asyncDispose]();
});
