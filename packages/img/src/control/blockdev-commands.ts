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
import { type FileNode, FileNodes } from './file-nodes.ts';
import type { Graph } from './graph.ts';
import type { Steering } from './steering.ts';

/** Opening and closing disks. */
export function blockdevCommands(steering: Steering): readonly QmpCommand[] {
  const files = new FileNodes();
  return [
    commandOf('blockdev-add', blockdevOptions, async (given) => {
      await inSentences(() => addBlockdev(steering, files, given));
      return undefined;
    }),
    command('blockdev-del', { 'node-name': text }, async ({ 'node-name': name }) => {
      if (files.isTaken(name)) throw refusal(`Block device ${name} is in use`);
      const disk = removable(steering, name);
      try {
        await steering.graph.remove(disk);
      } finally {
        for (const node of files.forget(disk)) {
          steering.graph.names.free(node.name);
          await openAlone(steering, files, node).catch(steering.report);
        }
      }
      return undefined;
    }),
  ];
}

/** @throws {QmpError} @throws {DiskError} @throws {CommandError} @throws {UsageError} */
async function addBlockdev(steering: Steering, files: FileNodes, given: BlockdevOptions): Promise<void> {
  const { graph } = steering;
  const name = given['node-name'];
  if (name === undefined) throw refusal("'node-name' must be specified for the root node");
  // Judged before anything is opened, and free until the disk is adopted.
  graph.names.free(graph.names.take(name));
  const below = backingOf(graph, given);
  if (given.driver === 'file' || given.driver === 'nbd') {
    await openAlone(steering, files, { name, options: given });
    return;
  }
  if (!('file' in given) || typeof given.file !== 'string') {
    await open(steering, given, name, below);
    return;
  }
  const { disk: alone } = graph.get(given.file);
  const file = files.of(alone);
  checkUnused(steering, alone);
  files.forget(alone);
  await graph.remove(alone);
  try {
    const { 'node-name': _, ...options } = file.options;
    const disk = await open(steering, { ...given, file: options }, name, below);
    graph.names.take(file.name);
    graph.nameFile(disk.top.image.host, file.name);
    files.take(file, disk);
  } catch (error) {
    await openAlone(steering, files, file).catch(steering.report);
    throw error;
  }
}

/** Opens a file as a disk by itself. */
async function openAlone(steering: Steering, files: FileNodes, node: FileNode): Promise<void> {
  files.add(await open(steering, node.options, node.name, undefined), node);
}

async function open(
  { graph, wish }: Steering,
  given: BlockdevOptions,
  name: string,
  below: LiveDisk | undefined,
): Promise<LiveDisk> {
  const isRead = given['read-only'] === true;
  const chain = given.driver === 'null-co' ? await openNull(given.size, isRead) : await openGiven();
  try {
    return graph.adopt(chain, name, below);
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
  checkUnused({ exports }, disk);
  if (depth > 0) throw refusal(`Node ${name} is not owned by the monitor`);
  disk.checkFree();
  return disk;
}

/** @throws {QmpError} for a disk that is exported, or on which another one stands */
function checkUnused({ exports }: Pick<Steering, 'exports'>, disk: LiveDisk): void {
  const { name } = disk.top;
  if (exports.uses(disk)) throw refusal(`Node ${name} is in use`);
  const [above] = disk.above;
  if (above !== undefined)
    throw refusal(`Node '${name}' is busy: node is used as backing hd of '${above.nodes.at(-1)?.name}'`);
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
