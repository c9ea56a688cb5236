/**
 * The commands that open and close disks: what a backup is written to, or whatever else is to be exported.
 *
 * QEMU: blockdev.c, `qmp_blockdev_add` and `qmp_blockdev_del`, for which sentence comes first.
 */
import { DiskError, hostFile, isDiskError, nullDevice, raw } from '@strata/block';
import {
  allowFolders,
  type Chain,
  type OpenOptions,
  openChain,
  openingSentence,
  openWritableChain,
  type WritableChain,
} from '@strata/chain';
import type { LiveDisk } from '@strata/live';
import { command, commandOf, type QmpCommand, refusal, text } from '@strata/qmp';
import { openingOfNode } from '../open.ts';
import { CommandError, UsageError } from '../report.ts';
import { imageNode } from '../typed/image-node.ts';
import { type BlockdevOptions, blockdevOptions, flatOptions } from './blockdev-options.ts';
import type { Graph } from './graph.ts';
import type { Steering } from './steering.ts';

/** Opening and closing disks. */
export function blockdevCommands(steering: Steering): readonly QmpCommand[] {
  return [
    commandOf('blockdev-add', blockdevOptions, async (given) => {
      await inSentences(() => addBlockdev(steering, given));
      return undefined;
    }),
    command('blockdev-del', { 'node-name': text }, async ({ 'node-name': name }) => {
      await steering.graph.remove(removable(steering, name));
      return undefined;
    }),
  ];
}

/** @throws {QmpError} @throws {DiskError} @throws {CommandError} @throws {UsageError} */
async function addBlockdev({ graph, wish }: Steering, given: BlockdevOptions): Promise<void> {
  const name = given['node-name'];
  if (name === undefined) throw refusal("'node-name' must be specified for the root node");
  // Judged before anything is opened, and free until the disk is adopted.
  graph.names.free(graph.names.take(name));
  const below = backingOf(graph, given);
  const isRead = given['read-only'] === true;
  const chain = given.driver === 'null-co' ? await openNull(given.size, isRead) : await openGiven();
  try {
    graph.adopt(chain, name, below);
  } catch (error) {
    await chain[Symbol.asyncDispose]();
    throw error;
  }

  async function openGiven(): Promise<Chain | WritableChain> {
    const flat = new Map(flatOptions(given));
    // The disk that it stands on is open already.
    if (below !== undefined) flat.set('backing', undefined);
    refuseReferences(flat);
    const opening = openingOfNode(imageNode(flat), wish);
    return isRead
      ? await openChain(opening.name, opening.options)
      : await openWritableChain(opening.name, opening.options);
  }
}

/** The disk that the new one is to stand on, if it is named. */
function backingOf(graph: Graph, given: BlockdevOptions): LiveDisk | undefined {
  const name = given.driver === 'qcow2' ? given.backing : undefined;
  if (typeof name !== 'string') return undefined;
  const found = graph.find(name);
  if (found === undefined) {
    throw refusal(`Could not open backing file: Cannot find device='${name}' nor node-name='${name}'`);
  }
  if (found.depth === 0) return found.disk;
  throw refusal(`Node '${name}' is under another one: standing on it is not supported`);
}

function refuseReferences(flat: ReadonlyMap<string, unknown>): void {
  for (const [name, value] of flat) {
    if (!/(^|\.)(file|data-file)$/.test(name)) continue;
    throw refusal(
      `Naming a node as '${name}' is not supported: describe the file there in place of '${value}'`,
    );
  }
}

/** QEMU's size of a null disk that is not told one. */
const nullSize = 1024 ** 3;

/** A disk that keeps nothing. */
async function openNull(size = nullSize, isRead: boolean): Promise<Chain | WritableChain> {
  const name = 'null-co://';
  const open = async () => {
    const host = hostFile(nullDevice(size), name);
    return { host, identity: undefined, realPath: undefined, lock: () => Promise.resolve() };
  };
  const options: OpenOptions = {
    formats: [raw],
    format: { ...raw, name: 'null-co' },
    gate: allowFolders([]),
    places: { openSource: open, openFile: open },
  };
  return isRead ? await openChain(name, options) : await openWritableChain(name, options);
}

/** The disk of this name, if it can go. @throws {QmpError} @throws {DiskError} */
function removable({ graph, exports }: Steering, name: string): LiveDisk {
  const found = graph.find(name);
  if (found === undefined) throw refusal(`Failed to find node with node-name='${name}'`);
  const { disk, depth } = found;
  if (exports.uses(disk)) throw refusal(`Node ${name} is in use`);
  const [above] = disk.above;
  if (above !== undefined)
    throw refusal(`Node '${name}' is busy: node is used as backing hd of '${above.nodes.at(-1)?.name}'`);
  if (depth > 0) throw refusal(`Node ${name} is not owned by the monitor`);
  disk.checkFree();
  return disk;
}

/** Says of an image that cannot be opened what QEMU says. */
async function inSentences<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isDiskError(error)) {
      throw new DiskError(error.code, openingSentence(error), { ...error.context, cause: error });
    }
    if (error instanceof CommandError || error instanceof UsageError) throw refusal(error.message);
    throw error;
  }
}
