/** `checkpoint --control`: checkpoints of nodes of a running server. */
import {
  checkpointedNodes,
  createRunningCheckpoint,
  dropRunningCheckpoints,
  type NodeCheckpoint,
  releaseRunning,
} from '@strata/backup';
import type { ListedCheckpoint } from './checkpoint-print.ts';
import { openSteering, scratchIn } from './steering.ts';

/** Which server, and how. */
export interface NodesWish {
  readonly control: string;
  readonly scratch: string | undefined;
  readonly series: string;
  readonly granularity: number | undefined;
}

/** What was done to a node. */
export type NodeChange = Pick<NodeCheckpoint, 'image' | 'checkpoint'> &
  Partial<Pick<NodeCheckpoint, 'export'>>;

/** @throws {CommandError} @throws {DiskError} */
export async function changeNodes(
  verb: 'create' | 'done' | 'drop' | 'release',
  nodes: readonly string[],
  { control, scratch: folder, series, granularity }: NodesWish,
): Promise<readonly NodeChange[]> {
  await using server = await openSteering(control);
  const scratch = folder === undefined ? undefined : scratchIn(folder);
  if (verb === 'create')
    return await createRunningCheckpoint(server, nodes, { series, granularity, scratch });
  if (verb !== 'release') {
    return await dropRunningCheckpoints(server, nodes, verb === 'done' ? 'older' : 'all', {
      series,
      scratch,
    });
  }
  await releaseRunning(server, nodes, { series, scratch });
  return [];
}

/** @throws {CommandError} @throws {DiskError} */
export async function listNodes(
  nodes: readonly string[],
  { control, series }: NodesWish,
): Promise<readonly ListedCheckpoint[]> {
  await using server = await openSteering(control);
  return (await checkpointedNodes(server, nodes, series)).flatMap(({ node, checkpoints }) =>
    checkpoints.map((checkpoint) => ({
      image: node.name,
      checkpoint,
      dirty: checkpoint.inconsistent
        ? undefined
        : node.bitmaps.find(({ name }) => name === checkpoint.name)?.count,
    })),
  );
}
