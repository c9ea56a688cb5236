/** What a running server tells over QMP of its nodes, jobs and exports. It is another program: nothing it says is taken on trust. */
import { DiskError } from '@strata/block';
import { type Checkpoint, type CheckpointBitmap, checkpointsIn } from './checkpoint-state.ts';

/** A connection to a server that is steered by QMP. */
export interface Steering {
  /** Carries out a command; a refusal rejects. */
  execute(command: string, given?: object): Promise<unknown>;
  /** The next event of this name for which `matches` holds. */
  event(name: string, matches: (data: Readonly<Record<string, unknown>>) => boolean): Promise<unknown>;
}

/** A node of the server's. */
export interface RunningNode {
  readonly name: string;
  /** Its bitmaps can be kept with its image. */
  readonly persists: boolean;
  /** Bytes of its disk. */
  readonly size: number;
  readonly bitmaps: readonly (CheckpointBitmap & { readonly count: number })[];
}

/** The nodes of these names, in their order. @throws {DiskError} not-found, protocol */
export async function runningNodes(
  server: Steering,
  names: readonly string[],
): Promise<readonly RunningNode[]> {
  const listed = listOf(await server.execute('query-named-block-nodes', { flat: true }), 'nodes');
  return names.map((name) => {
    const found = listed.find((each) => each['node-name'] === name);
    if (found === undefined) throw new DiskError('not-found', `the server has no node '${name}'`);
    return nodeOf(name, found);
  });
}

function nodeOf(name: string, node: Members): RunningNode {
  const image = membersOf(node['image']);
  const size = image?.['virtual-size'];
  if (!Number.isSafeInteger(size) || (size as number) < 0) {
    throw new DiskError('protocol', `the server tells no size of node '${name}'`);
  }
  const bitmaps = listOf(node['dirty-bitmaps'] ?? [], 'bitmaps').flatMap((bitmap) => {
    const { name: called, recording, inconsistent, count } = bitmap;
    if (typeof called !== 'string') return [];
    const dirty = typeof count === 'number' ? count : 0;
    return [{ name: called, enabled: recording === true, inconsistent: inconsistent === true, count: dirty }];
  });
  return { name, persists: node['drv'] === 'qcow2', size: size as number, bitmaps };
}

/** A node with its checkpoints of one series. */
export interface CheckpointedNode {
  readonly node: RunningNode;
  readonly checkpoints: readonly Checkpoint[];
}

/** @throws {DiskError} not-found, protocol */
export async function checkpointedNodes(
  server: Steering,
  names: readonly string[],
  series: string,
): Promise<readonly CheckpointedNode[]> {
  const nodes = await runningNodes(server, names);
  return nodes.map((node) => ({ node, checkpoints: checkpointsIn(node.bitmaps, series) }));
}

/** True if the server lists something with this id. `command` is `query-jobs` or `query-block-exports`. */
export async function isListed(
  server: Steering,
  command: 'query-jobs' | 'query-block-exports',
  id: string,
  matches: (members: Members) => boolean = () => true,
): Promise<boolean> {
  const listed = listOf(await server.execute(command), command);
  return listed.some((each) => each['id'] === id && matches(each));
}

type Members = Readonly<Record<string, unknown>>;

function membersOf(value: unknown): Members | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Members)
    : undefined;
}

function listOf(value: unknown, what: string): readonly Members[] {
  if (!Array.isArray(value)) throw new DiskError('protocol', `the server's answer is no list of ${what}`);
  return value.flatMap((each: unknown): readonly Members[] => {
    const members = membersOf(each);
    return members === undefined ? [] : [members];
  });
}
