/**
 * `blockdev-snapshot-sync`: a new image over a disk that is in use.
 *
 * QEMU: blockdev.c, `external_snapshot_prepare`, for which sentence comes first.
 */
import { resolve } from 'node:path';
import { DiskError, isDiskError } from '@strata/block';
import { closeImage, openingSentence, openWritableChain, schemeOf, type WritableImage } from '@strata/chain';
import { type LiveDisk, type PreparedSnapshot, prepareSnapshot } from '@strata/live';
import { choice, optional, type Read, refusal, text } from '@strata/qmp';
import { supportNamed } from '../known-formats.ts';
import { makeImage } from '../make.ts';
import { noObjects } from '../objects/objects.ts';
import { openingFor } from '../open.ts';
import { CommandError } from '../report.ts';
import { type Action, type ActionKind, actionKind } from './action.ts';
import type { FoundNode, Graph } from './graph.ts';
import type { Steering } from './steering.ts';

const fields = {
  device: optional(text),
  'node-name': optional(text),
  'snapshot-file': text,
  'snapshot-node-name': optional(text),
  format: optional(text),
  mode: optional(choice('existing', 'absolute-paths')),
};

/** The kinds of steps, by the names of the commands. */
export function snapshotActions(steering: Steering): Readonly<Record<string, ActionKind>> {
  return { 'blockdev-snapshot-sync': actionKind(fields, (data) => snapshot(steering, data)) };
}

function snapshot(steering: Steering, given: Read<typeof fields>): Action {
  const { graph, report } = steering;
  let made: { readonly image: WritableImage; readonly name: string; readonly snapshot: PreparedSnapshot };
  return {
    prepare: async () => {
      const { disk } = findTop(graph, given);
      const name = overlayName(graph, given);
      const image = await overlayOf(steering, disk, given);
      try {
        graph.names.take(name);
        try {
          const snapshot = await prepareSnapshot(disk, { name, image, writable: image });
          made = { image, name, snapshot };
        } catch (error) {
          graph.names.free(name);
          throw error;
        }
      } catch (error) {
        await closeImage(image).catch(report);
        throw error;
      }
    },
    commit: async () => {
      const failure = await made.snapshot.commit();
      if (failure !== undefined) report(failure);
    },
    abort: async () => {
      made.snapshot.drop();
      graph.names.free(made.name);
      await closeImage(made.image);
    },
  };
}

/** The disk whose top is named. Devices of machines, which have names of their own, are there none. */
function findTop(graph: Graph, given: Read<typeof fields>): FoundNode {
  const { device = '', 'node-name': name = '' } = given;
  const found = graph.find(name);
  if (found === undefined) throw refusal(`Cannot find device='${device}' nor node-name='${name}'`);
  const above = found.disk.nodes[found.depth - 1];
  if (above !== undefined)
    throw refusal(`Node '${name}' is busy: node is used as backing hd of '${above.name}'`);
  found.disk.checkFree();
  return found;
}

function overlayName(graph: Graph, given: Read<typeof fields>): string {
  const name = given['snapshot-node-name'];
  if (name === undefined) throw refusal('New overlay node-name missing');
  if (graph.find(name) !== undefined) throw refusal('New overlay node-name already in use');
  return name;
}

/** The new image, made unless it is to be there, and opened for writing. */
async function overlayOf(
  { wish, graph }: Steering,
  disk: LiveDisk,
  given: Read<typeof fields>,
): Promise<WritableImage> {
  const { 'snapshot-file': path, format = 'qcow2', mode = 'absolute-paths' } = given;
  const support = supportNamed(format);
  if (support === undefined) {
    throw refusal(mode === 'existing' ? `Unknown driver '${format}'` : `Unknown file format '${format}'`);
  }
  if (mode !== 'existing') {
    if (!support.rows.some(({ name }) => name === 'backing_file'))
      throw refusal(`Backing file not supported for file format '${format}'`);
    const { image } = disk.top;
    const backing = { name: recordable(image.path), format: image.format.name };
    const values = new Map([['size', disk.size]]);
    await makeImage(path, support, { size: disk.size, backing, values, objects: noObjects }).catch(refused);
  }
  graph.names.free(graph.names.take(given['snapshot-node-name'] as string));
  const { imageOptions: _, made: __, ...plain } = wish;
  const options = { ...openingFor([path], { ...plain, format }), backing: false };
  const { top } = await openWritableChain(path, options).catch((error: unknown) => {
    if (!isDiskError(error)) throw error;
    throw new DiskError(error.code, openingSentence(error), { ...error.context, cause: error });
  });
  return top;
}

/** A name that leads to the image from everywhere. */
function recordable(path: string): string {
  return schemeOf(path) === undefined ? resolve(path) : path;
}

function refused(error: unknown): never {
  throw error instanceof CommandError ? refusal(error.message) : error;
}
