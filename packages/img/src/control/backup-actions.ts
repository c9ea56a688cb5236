/**
 * `blockdev-backup`: another disk gets what a disk in use holds at one moment.
 *
 * QEMU: blockdev.c, `do_backup_common`, for which sentence comes first.
 */
import { bitmapStoreOf } from '@strata/bitmap';
import { type BackupOptions, checkBackup, endOf, type Job, type JobGroup, prepareBackup } from '@strata/live';
import { anything, choice, flag, integer, optional, type Read, refusal, text } from '@strata/qmp';
import { type Action, type ActionKind, actionKind } from './action.ts';
import { checkBitmap, listBitmapsOf } from './bitmaps.ts';
import type { FoundNode } from './graph.ts';
import type { Steering } from './steering.ts';

const onError = optional(choice('report', 'ignore', 'enospc', 'stop', 'auto'));

const fields = {
  'job-id': optional(text),
  device: text,
  target: text,
  sync: choice('top', 'full', 'none', 'incremental', 'bitmap'),
  bitmap: optional(text),
  'bitmap-mode': optional(choice('on-success', 'never', 'always')),
  speed: optional(integer),
  compress: optional(flag),
  'on-source-error': onError,
  'on-target-error': onError,
  'auto-finalize': optional(flag),
  'auto-dismiss': optional(flag),
  'filter-node-name': optional(text),
  // Only how fast it goes.
  'x-perf': optional(anything),
};

type Given = Read<typeof fields>;

/** The kinds of steps, by the names of the commands. */
export function backupActions(steering: Steering): Readonly<Record<string, ActionKind>> {
  const make = (data: Given, group: JobGroup | undefined): Action => backup(steering, data, group);
  return { 'blockdev-backup': actionKind(fields, make, { grouped: true }) };
}

function backup({ graph, jobs }: Steering, given: Given, group: JobGroup | undefined): Action {
  let job: Job | undefined;
  let isStarted = false;
  return {
    prepare: async () => {
      const source = topOf(graph.get(given.device));
      const target = topOf(graph.get(given.target));
      refuseLater(given);
      const options = await optionsOf(source, target, given);
      checkBackup(options);
      // What is busy is told before what is wrong with the job's own name.
      target.disk.checkFree();
      source.disk.checkFree();
      const { 'job-id': id = '', speed = 0 } = given;
      jobs.checkId(id);
      if (speed < 0) throw refusal("Parameter 'speed' expects a non-negative value");
      const task = await prepareBackup(options, async () => {
        if (job !== undefined) await endOf(job);
      });
      const ending = { autoFinalize: given['auto-finalize'], autoDismiss: given['auto-dismiss'] };
      job = jobs.create(task, { id, speed, ...ending }, group);
    },
    commit: async () => {
      job?.start();
      isStarted = true;
    },
    abort: async () => await job?.drop(),
    clean: () => {
      if (isStarted) job?.go();
    },
  };
}

/** @throws {QmpError} for an image under another one */
function topOf(found: FoundNode): FoundNode {
  if (found.depth === 0) return found;
  throw refusal(
    `Backing up '${found.node.name}', which is under another image, or into it, is not supported`,
  );
}

/** What is not there is refused by its name. */
function refuseLater(given: Given): void {
  if (given.compress) throw refusal('compress=true is not supported');
  if (given['filter-node-name'] !== undefined) throw refusal("'filter-node-name' is not supported");
  for (const name of ['on-source-error', 'on-target-error'] as const) {
    const action = given[name] ?? 'report';
    if (action !== 'report' && action !== 'auto') throw refusal(`${name}=${action} is not supported`);
  }
}

async function optionsOf(source: FoundNode, target: FoundNode, given: Given): Promise<BackupOptions> {
  const { bitmap: name, 'bitmap-mode': bitmapMode, sync } = given;
  const options = { source: source.disk, target: target.disk, sync, bitmapMode };
  if (name === undefined) return options;
  const facts = (await listBitmapsOf(source)).find((each) => each.name === name);
  if (facts === undefined) throw refusal(`Bitmap '${name}' could not be found`);
  checkBitmap({ at: source, facts });
  const store = bitmapStoreOf(source.node.image.layer);
  if (store === undefined) throw refusal(`Bitmap '${name}' is readonly and cannot be modified`);
  return { ...options, bitmap: { store, name } };
}
