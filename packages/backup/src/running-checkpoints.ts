/**
 * Checkpoints of disks that a running server has open, by QMP: one transaction for all disks begins the new bitmaps,
 * freezes the former ones and, if a scratch folder is given, holds the disks still for the backup.
 */
import { DiskError, isDiskError } from '@strata/block';
import { checkSeries, formatCheckpoint, newIdentity, parseCheckpoint } from './checkpoint-name.ts';
import { newestCheckpoint } from './checkpoint-state.ts';
import type { ImageCheckpoint } from './checkpoints.ts';
import {
  describeCheckpoint,
  exportFleece,
  exportNameOf,
  type Fleece,
  prepareFleece,
  releaseFleece,
  type ScratchFolder,
} from './fleece.ts';
import { type CheckpointedNode, checkpointedNodes, runningNodes, type Steering } from './running-nodes.ts';

/** How a checkpoint of a running server is made. */
export interface RunningOptions {
  readonly series: string;
  /** Of new bitmaps; undefined: the server's choice. */
  readonly granularity?: number | undefined;
  /** Undefined: only bitmaps are made, and the disks are not held still. */
  readonly scratch?: ScratchFolder | undefined;
}

/** A checkpoint of a node. */
export interface NodeCheckpoint extends ImageCheckpoint {
  /** The export that shows the disk at the checkpoint; undefined if it is not held still. */
  readonly export: string | undefined;
}

/** A node on its way to a checkpoint. */
interface Step extends CheckpointedNode {
  readonly name: string;
  readonly fleece: Fleece;
  /** The bitmaps that record now. */
  readonly recording: readonly string[];
}

/**
 * Begins a new checkpoint on all of `nodes`, or on none. What was held still for an earlier one is given up first; its
 * frozen bitmaps stay.
 *
 * @throws {DiskError} invalid, not-found, protocol, and what the server refuses
 */
export async function createRunningCheckpoint(
  server: Steering,
  nodes: readonly string[],
  { series, granularity, scratch }: RunningOptions,
): Promise<readonly NodeCheckpoint[]> {
  checkSeries(series);
  const group = newIdentity();
  const steps = (await checkpointedNodes(server, nodes, series)).map((found) => stepOf(found, series, group));
  await releaseAll(server, steps, scratch);
  try {
    const actions: object[] = [];
    for (const { node, name, recording } of steps) {
      const persistent = node.persists ? { persistent: true } : {};
      const finely = granularity === undefined ? {} : { granularity };
      actions.push(action('add', { node: node.name, name, ...finely, ...persistent }));
      for (const former of recording) actions.push(action('disable', { node: node.name, name: former }));
    }
    if (scratch !== undefined) {
      for (const { node, fleece } of steps)
        actions.push(await prepareFleece(server, scratch, fleece, node.size));
    }
    await server.execute('transaction', { actions });
    if (scratch !== undefined) for (const step of steps) await exportStep(server, step, series);
  } catch (error) {
    await releaseAll(server, steps, scratch).catch(() => undefined);
    throw error;
  }
  return steps.map(({ node, name }) => ({
    image: node.name,
    checkpoint: name,
    export: scratch && exportNameOf(series, node.name),
  }));
}

function stepOf({ node, checkpoints }: CheckpointedNode, series: string, group: string): Step {
  const newest = newestCheckpoint(checkpoints)?.parts;
  const disk = newest?.disk ?? newIdentity();
  const name = formatCheckpoint({ series, number: (newest?.number ?? 0) + 1, group, disk });
  const recording = checkpoints
    .filter(({ enabled, inconsistent }) => enabled && !inconsistent)
    .map((each) => each.name);
  return { node, checkpoints, name, fleece: { node: node.name, disk }, recording };
}

async function exportStep(
  server: Steering,
  { node, checkpoints, name, fleece }: Step,
  series: string,
): Promise<void> {
  const frozen = checkpoints.filter(({ inconsistent }) => !inconsistent).map((each) => each.name);
  const called = { name: exportNameOf(series, node.name), description: describeCheckpoint(name) };
  await exportFleece(server, fleece, called, frozen);
}

const action = (kind: 'add' | 'disable' | 'remove', data: object): object => ({
  type: `block-dirty-bitmap-${kind}`,
  data,
});

async function releaseAll(
  server: Steering,
  steps: readonly { readonly fleece: Fleece }[],
  scratch: ScratchFolder | undefined,
): Promise<void> {
  const hasNode = async (name: string): Promise<boolean> => {
    try {
      await runningNodes(server, [name]);
      return true;
    } catch (error) {
      if (isDiskError(error, 'not-found')) return false;
      throw error;
    }
  };
  for (const { fleece } of steps) await releaseFleece(server, fleece, scratch, hasNode);
}

/**
 * Gives up what is held still and drops checkpoints: all but the newest of each node, or all.
 *
 * @throws {DiskError} invalid, not-found, protocol, and what the server refuses
 */
export async function dropRunningCheckpoints(
  server: Steering,
  nodes: readonly string[],
  which: 'older' | 'all',
  { series, scratch }: Pick<RunningOptions, 'series' | 'scratch'>,
): Promise<readonly ImageCheckpoint[]> {
  checkSeries(series);
  const found = await checkpointedNodes(server, nodes, series);
  const dropped: ImageCheckpoint[] = [];
  const fleeces: { readonly fleece: Fleece }[] = [];
  for (const { node, checkpoints } of found) {
    const newest = which === 'older' ? newestCheckpoint(checkpoints) : undefined;
    const disks = new Set(checkpoints.map(({ parts }) => parts.disk));
    for (const disk of disks) fleeces.push({ fleece: { node: node.name, disk } });
    const names = checkpoints.filter((each) => each !== newest).map((each) => each.name);
    dropped.push(...names.map((checkpoint) => ({ image: node.name, checkpoint })));
  }
  await releaseAll(server, fleeces, scratch);
  const actions = dropped.map(({ image, checkpoint }) => action('remove', { node: image, name: checkpoint }));
  if (actions.length > 0) await server.execute('transaction', { actions });
  return dropped;
}

/** Gives up what is held still after a backup that failed. The frozen bitmaps stay for the next one. */
export async function releaseRunning(
  server: Steering,
  nodes: readonly string[],
  { series, scratch }: Pick<RunningOptions, 'series' | 'scratch'>,
): Promise<void> {
  checkSeries(series);
  const found = await checkpointedNodes(server, nodes, series);
  const fleeces = found.flatMap(({ node, checkpoints }) => {
    const disk = checkpoints.at(-1)?.parts.disk;
    return disk === undefined ? [] : [{ fleece: { node: node.name, disk } }];
  });
  await releaseAll(server, fleeces, scratch);
}

/** The disk that a checkpoint is of, for `assertHeld`. @throws {DiskError} invalid if it is not one of ours */
export function diskOf(checkpoint: string): Pick<Fleece, 'disk'> {
  const parts = parseCheckpoint(checkpoint);
  if (parts !== undefined) return { disk: parts.disk };
  throw new DiskError('invalid', `'${checkpoint}' is not a checkpoint that was made here`);
}
