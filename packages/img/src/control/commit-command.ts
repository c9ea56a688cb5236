/**
 * `block-commit`: images of a disk in use go down into one below.
 *
 * QEMU: blockdev.c, `qmp_block_commit`, for which sentence comes first.
 */
import { resolve } from 'node:path';
import {
  endOf,
  type Job,
  type JobTask,
  type LiveDisk,
  type LiveNode,
  prepareActiveCommit,
  prepareCommit,
} from '@strata/live';
import {
  choice,
  command,
  flag,
  integer,
  optional,
  type QmpCommand,
  QmpError,
  type Read,
  refusal,
  text,
} from '@strata/qmp';
import type { Graph } from './graph.ts';
import type { Steering } from './steering.ts';

const fields = {
  'job-id': optional(text),
  device: text,
  'base-node': optional(text),
  base: optional(text),
  'top-node': optional(text),
  top: optional(text),
  'backing-file': optional(text),
  speed: optional(integer),
  'on-error': optional(choice('report', 'ignore', 'enospc', 'stop', 'auto')),
  'filter-node-name': optional(text),
  'auto-finalize': optional(flag),
  'auto-dismiss': optional(flag),
};

type Given = Read<typeof fields>;

/** The command. */
export function commitCommand({ graph, jobs }: Steering): QmpCommand {
  return command('block-commit', fields, async (given) => {
    refuseLater(given);
    const { disk, top, base } = placesOf(graph, given);
    const backingFile = given['backing-file'];
    if (top === 0 && backingFile !== undefined)
      throw refusal("'backing-file' specified, but 'top' is the active layer");
    const { 'job-id': id = '', speed = 0 } = given;
    jobs.checkId(id);
    if (speed < 0) throw refusal("Parameter 'speed' expects a non-negative value");
    const onDropped = (nodes: readonly LiveNode[]): void => {
      for (const { name } of nodes) graph.names.free(name);
    };
    let job: Job | undefined;
    const stop = async (): Promise<void> => {
      if (job !== undefined) await endOf(job);
    };
    const task = await disk.paused<JobTask>(() =>
      top === 0
        ? prepareActiveCommit({ disk, base, onDropped }, stop)
        : prepareCommit({ disk, top, base, backingFile, onDropped }, stop),
    );
    const ending = { autoFinalize: given['auto-finalize'], autoDismiss: given['auto-dismiss'] };
    job = jobs.create(task, { id, speed, ...ending });
    job.start();
    job.go();
    return undefined;
  });
}

/** What is not there is refused by its name. */
function refuseLater(given: Given): void {
  const action = given['on-error'] ?? 'report';
  if (action !== 'report' && action !== 'auto') throw refusal(`on-error=${action} is not supported`);
  if (given['filter-node-name'] !== undefined) throw refusal("'filter-node-name' is not supported");
}

/** Which images are meant, as places in the disk's list. */
interface Places {
  readonly disk: LiveDisk;
  readonly top: number;
  readonly base: number;
}

/** @throws {QmpError} @throws {DiskError} busy */
function placesOf(graph: Graph, given: Given): Places {
  const found = graph.find(given.device);
  if (found === undefined) throw new QmpError('DeviceNotFound', `Device '${given.device}' not found`);
  const { disk } = found;
  if (found.depth > 0) throw refusal('Need a root block node');
  disk.checkFree();
  const top = placeOf(graph, disk, given, 'top', 0) ?? 0;
  const base = placeOf(graph, disk, given, 'base', top + 1) ?? disk.nodes.length - 1;
  if (top === base) throw refusal('cannot commit an image into itself');
  const baseName = given['base-node'] ?? given.base ?? '';
  if (base < top) throw refusal(`'${baseName}' is not in this backing file chain`);
  if (given['base-node'] === undefined && given.base === undefined && disk.below !== undefined)
    throw refusal(`Committing into the disk that '${given.device}' stands on is not supported`);
  return { disk, top, base };
}

/** The image that is meant as `what`, if one is named. A path means one from `first` on. */
function placeOf(
  graph: Graph,
  disk: LiveDisk,
  given: Given,
  what: 'top' | 'base',
  first: number,
): number | undefined {
  const name = given[`${what}-node`];
  const path = given[what];
  if (name !== undefined && path !== undefined)
    throw refusal(`'${what}-node' and '${what}' are mutually exclusive`);
  if (name !== undefined) {
    const found = graph.find(name);
    if (found === undefined) throw refusal(`Cannot find device='' nor node-name='${name}'`);
    if (found.disk !== disk) throw refusal(`'${name}' is not in this backing file chain`);
    return found.depth;
  }
  if (path === undefined) return undefined;
  const place = disk.nodes.findIndex(
    ({ image }, index) => index >= first && (image.path === path || resolve(image.path) === resolve(path)),
  );
  if (place >= 0) return place;
  throw refusal(
    what === 'top' ? `Top image file ${path} not found` : `Can't find '${path}' in the backing chain`,
  );
}
