/** The commands that tell which nodes there are. */
import { type BitmapFacts, bitmapsOf } from '@strata/bitmap';
import type { LiveDisk, LiveNode } from '@strata/live';
import { command, flag, type JsonObject, optional, type QmpCommand } from '@strata/qmp';
import { inSectors } from '../disk-size.ts';
import { imageReport } from '../image-report.ts';
import { supportNamed } from '../known-formats.ts';
import { infoJson } from '../print/info.ts';
import type { Graph } from './graph.ts';
import type { Steering } from './steering.ts';

/** `query-named-block-nodes`, and `query-block`, which knows devices of a machine only: there are none. */
export function queryCommands({ graph }: Steering): readonly QmpCommand[] {
  return [
    command('query-named-block-nodes', { flat: optional(flag) }, async ({ flat = false }) => {
      const infos: JsonObject[] = [];
      for (const disk of graph.disks) infos.push(...(await nodesOfDisk(disk, graph, flat)));
      return infos.reverse();
    }),
    command('query-block', {}, () => []),
  ];
}

/** Each image and its file, from the top down. */
async function nodesOfDisk(disk: LiveDisk, graph: Graph, flat: boolean): Promise<readonly JsonObject[]> {
  const images = new Map<LiveNode, JsonObject>();
  for (const node of nodesDown(disk)) images.set(node, await imageOf(node));
  const infos: JsonObject[] = [];
  for (const node of disk.nodes) {
    const { image } = node;
    if (supportNamed(image.format.name) === undefined) {
      // A place for bytes that is a node by itself.
      infos.push({ ...(await fileInfo(node, node.name)), ...(await bitmapInfos(node)) });
      continue;
    }
    const under = [...images.values()].slice([...images.keys()].indexOf(node) + 1);
    const name = graph.fileName(image.host);
    infos.push(await fileInfo(node, name), await imageInfo(node, images.get(node) ?? {}, under, flat));
  }
  return infos;
}

/** The images that a disk is read from, top first. */
function nodesDown(disk: LiveDisk): readonly LiveNode[] {
  return [...disk.nodes, ...(disk.below === undefined ? [] : nodesDown(disk.below))];
}

/** What `info` tells of an image. */
async function imageOf({ image }: LiveNode): Promise<JsonObject> {
  const filename = image.host.path ?? image.path;
  const { name } = image.format;
  const support = supportNamed(name);
  if (support === undefined) return { filename, format: name, 'virtual-size': inSectors(image.layer.size) };
  return infoJson(await imageReport({ filename, support, host: image.host })) as JsonObject;
}

async function imageInfo(
  node: LiveNode,
  image: JsonObject,
  under: readonly JsonObject[],
  flat: boolean,
): Promise<JsonObject> {
  const whole = flat ? image : nested([image, ...under]);
  return {
    ...commonInfo(node),
    'node-name': node.name,
    drv: node.image.format.name,
    file: image['filename'],
    backing_file_depth: flat ? 0 : under.length,
    backing_file: under[0]?.['filename'],
    encrypted: image['encrypted'] === true,
    image: whole,
    ...(await bitmapInfos(node)),
  };
}

/** Each image with the one under it inside. */
function nested([top = {}, ...under]: readonly JsonObject[]): JsonObject {
  return under.length === 0 ? top : { ...top, 'backing-image': nested(under) };
}

async function fileInfo(node: LiveNode, name: string): Promise<JsonObject> {
  const { host, path } = node.image;
  const filename = host.path ?? path;
  const [, drv = 'file'] = /^(nbd|null-co)\S*:\/\//.exec(filename) ?? [];
  return {
    ...commonInfo(node),
    'node-name': name,
    drv,
    file: filename,
    backing_file_depth: 0,
    encrypted: false,
    image: {
      filename,
      format: drv,
      'virtual-size': inSectors(host.size),
      'actual-size': await host.allocated(),
      'dirty-flag': drv === 'file' ? false : undefined,
    },
  };
}

/** What programs expect to find, and what is always so here. */
function commonInfo({ writable }: LiveNode): JsonObject {
  return {
    ro: writable === undefined,
    cache: { writeback: true, direct: false, 'no-flush': false },
    detect_zeroes: 'off',
    write_threshold: 0,
    iops: 0,
    iops_rd: 0,
    iops_wr: 0,
    bps: 0,
    bps_rd: 0,
    bps_wr: 0,
  };
}

/** The latest first, if there are any. */
async function bitmapInfos({ image: { layer } }: LiveNode): Promise<JsonObject> {
  const source = bitmapsOf(layer);
  const infos: JsonObject[] = [];
  for (const facts of (await source?.list()) ?? []) {
    const count = facts.inconsistent ? 0 : ((await source?.load(facts.name))?.count ?? 0);
    infos.push(bitmapInfo(facts, count));
  }
  return infos.length > 0 ? { 'dirty-bitmaps': infos.reverse() } : {};
}

function bitmapInfo(facts: BitmapFacts, count: number): JsonObject {
  const { name, granularity, enabled, busy, persistent, inconsistent } = facts;
  return {
    name,
    count,
    granularity,
    recording: enabled && !inconsistent,
    busy,
    persistent,
    inconsistent: inconsistent || undefined,
  };
}
