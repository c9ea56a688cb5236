/**
 * Opens images that the user described node by node (`json:{...}`, `--image-opts`).
 *
 * A description becomes what the chain knows already: a name, a format, and places that open what the description
 * says when they are asked for that name. A format node where a file should be is opened as a chain of its own, and its
 * disk is the file.
 */
import { dirname } from 'node:path';
import {
  DiskError,
  type HostFile,
  type HostSource,
  hostFile,
  hostSource,
  type SnapshotChoice,
} from '@strata/block';
import {
  allowFolders,
  type Chain,
  type NamedImage,
  type OpenOptions,
  openChain,
  openWritableChain,
  type Place,
  type Places,
} from '@strata/chain';
import type { FormatSupport } from './formats/support.ts';
import { formats, supportNamed } from './known-formats.ts';
import type { Objects } from './objects/objects.ts';
import { checkWritable, describedPlace } from './places/described.ts';
import type { FileManner } from './places/file.ts';
import { changedFile, changedSource, type HostChanges } from './places/host.ts';
import { typedPlaces } from './places/schemes.ts';
import { formatJsonLine, type Json, type JsonObject } from './print/json.ts';
import { UsageError } from './report.ts';
import type { Scalar } from './typed/flat-options.ts';
import type { FormatNode, ImageNode, ProtocolNode } from './typed/image-node.ts';
import { nodeOptions } from './typed/node-options.ts';

/** How a description is to be carried out. */
export interface DescribedWish {
  readonly allow: readonly string[];
  readonly objects: Objects;
  readonly share: boolean | undefined;
  readonly snapshot: SnapshotChoice | undefined;
  readonly manner: FileManner;
}

/** What opens an image. */
export interface Opening {
  /** The path or the URI of its file. */
  readonly name: string;
  readonly options: OpenOptions;
}

/** What opens the image `top`. @throws {DiskError} */
export function describedOpening(top: FormatNode, wish: DescribedWish): Opening {
  const nodes = new Map<string, FormatNode>();
  const images: NamedImage[] = [];
  const files = new Map<string, ProtocolNode>();
  let last = top;
  for (let node: FormatNode | 'none' | undefined = top; typeof node === 'object'; node = node.backing) {
    const name = fileOf(node, wish.objects).name;
    nodes.set(name, node);
    const dataFile = describedDataFile(node, wish.objects);
    if (node.dataFile && dataFile !== undefined) files.set(dataFile, node.dataFile);
    images.push({ name, format: supportOf(node, wish.objects)?.format, dataFile });
    last = node;
  }
  const [first, ...below] = images as [NamedImage, ...NamedImage[]];
  const share = shareOf(top, wish.share);
  const folders = [...nodes].flatMap(([name, node]) => foldersOf(name, node));
  return {
    name: first.name,
    options: {
      formats: formats.map((support) => support.format),
      gate: allowFolders([...folders, ...wish.allow]),
      places: placesOf(nodes, wish, files),
      below,
      dataFile: first.dataFile,
      backing: last.backing !== 'none',
      ...(first.format !== undefined && { format: first.format }),
      ...(share !== undefined && { share }),
      ...(wish.snapshot !== undefined && { snapshot: wish.snapshot }),
    },
  };
}

/** The file of the image `node` alone, opened by `open` to look into it or to change it. @throws {DiskError} */
export async function openDescribed<Host extends HostSource>(
  node: FormatNode,
  wish: DescribedWish,
  open: (places: Places, name: string) => Promise<Place<Host>>,
) {
  if (typeof node.backing === 'object') {
    const driver = `Block format '${node.driver}'`;
    throw new DiskError('invalid', `${driver} does not support the option 'backing.driver'`);
  }
  shareOf(node, wish.share);
  const { name } = fileOf(node, wish.objects);
  const place = await open(placesOf(new Map([[name, node]]), wish), name);
  return { place, support: supportOf(node, wish.objects), shown: describedName(node) };
}

/** @throws {UsageError} if the command line says the opposite */
function shareOf({ share }: FormatNode, wanted: boolean | undefined): boolean | undefined {
  if (wanted && share === false) throw new UsageError('--force-share/-U conflicts with image options');
  return wanted ?? share;
}

/** The name of the data file that an image is given; undefined if it is the one that the image names. */
export function describedDataFile({ dataFile }: FormatNode, objects: Objects): string | undefined {
  return dataFile && describedPlace(dataFile, objects).name;
}

/** The folders into which names inside the described images may lead without being asked for. */
export function describedFolders(top: FormatNode, objects: Objects): readonly string[] {
  const folders: string[] = [];
  for (let node: FormatNode | 'none' | undefined = top; typeof node === 'object'; node = node.backing) {
    folders.push(...foldersOf(fileOf(node, objects).name, node));
  }
  return folders;
}

function foldersOf(name: string, node: FormatNode): readonly string[] {
  return innermost(node).driver === 'file' ? [dirname(name)] : [];
}

function innermost(node: ImageNode): ProtocolNode {
  return node.kind === 'protocol' ? node : innermost(node.file);
}

function fileOf(node: FormatNode, objects: Objects) {
  return describedPlace(innermost(node), objects);
}

/** The format of a node with its options; undefined: probe. @throws {DiskError} */
function supportOf(node: FormatNode, objects: Objects): FormatSupport | undefined {
  const { driver, shownAs } = node;
  const options = nodeOptions(node.options, objects);
  const named = driver === undefined ? undefined : supportNamed(driver);
  const support = named?.configure?.(options) ?? named;
  const [unknown] = options.rest();
  if (unknown !== undefined) {
    const what = driver === undefined ? 'An image without a driver' : `Block format '${driver}'`;
    throw new DiskError('invalid', `${what} does not support the option '${unknown}'`);
  }
  if (support === undefined || shownAs === undefined) return support;
  return { ...support, format: { ...support.format, name: shownAs } };
}

/** Opens the files of described images, and everything else by its name. */
function placesOf(
  nodes: ReadonlyMap<string, FormatNode>,
  wish: DescribedWish,
  files: ReadonlyMap<string, ProtocolNode> = new Map(),
): Places {
  const others = typedPlaces(wish.manner);
  /** Whoever opens a file that is no image of the description. */
  const otherPlaces = async (name: string): Promise<Places> => {
    const file = files.get(name);
    return file === undefined ? others : describedPlace(file, wish.objects).places(wish.manner);
  };
  const placeOf = async (node: FormatNode, file: ProtocolNode): Promise<Places> => {
    const unsafe = wish.manner.unsafe || node.noFlush;
    return describedPlace(file, wish.objects).places({ ...wish.manner, unsafe });
  };
  return {
    openSource: async (name) => {
      const node = nodes.get(name);
      if (node === undefined) return (await otherPlaces(name)).openSource(name);
      const { file } = node;
      if (file.kind === 'protocol') return (await placeOf(node, file)).openSource(name);
      const opening = describedOpening(file, wish);
      const chain = await openChain(opening.name, opening.options);
      return placed(changedSource(hostSource(chain.source, opening.name), changesFor(chain)));
    },
    openFile: async (name) => {
      const node = nodes.get(name);
      const dataFile = files.get(name);
      if (dataFile !== undefined) checkWritable(dataFile);
      if (node === undefined) return (await otherPlaces(name)).openFile(name);
      checkWritable(node);
      const { file } = node;
      if (file.kind === 'protocol') return (await placeOf(node, file)).openFile(name);
      const opening = describedOpening(file, wish);
      const chain = await openWritableChain(opening.name, opening.options);
      return placed(changedFile(hostFile(chain.device, opening.name), changesFor(chain)));
    },
  };
}

/** Closing the disk closes its images; it takes what the top takes. */
function changesFor(chain: Chain): HostChanges {
  return {
    allocated: async () => chain.images[0]?.host.allocated(),
    [Symbol.asyncDispose]: () => chain[Symbol.asyncDispose](),
  };
}

/** Another image as a place: it holds its own locks. */
function placed<Host extends HostSource | HostFile>(host: Host): Place<Host> {
  return { host, identity: undefined, realPath: undefined, lock: () => Promise.resolve() };
}

/** How QEMU's tools show the name of an image that its file's name does not tell; undefined if it does. */
function describedName(node: FormatNode): string | undefined {
  const tells = shownOptions(node).length === 0;
  if (node.shownAs !== undefined || (tells && node.file.kind === 'protocol')) return undefined;
  return `json:${formatJsonLine(jsonOf(node))}`;
}

function jsonOf(node: ImageNode): JsonObject {
  const shown: Record<string, Json> = { driver: node.driver };
  for (const [name, value] of node.kind === 'protocol' ? node.options : shownOptions(node)) {
    shown[name] = value;
  }
  return node.kind === 'protocol' ? shown : { ...shown, file: jsonOf(node.file) };
}

/** Options without which the name would be another image's. */
function shownOptions({ driver, options }: FormatNode): readonly (readonly [string, Scalar])[] {
  const names: Readonly<Record<string, RegExp>> = {
    luks: /^key-secret$/,
    qcow2: /^encrypt\.key-secret$/,
    raw: /^/,
  };
  const shown = names[driver ?? ''];
  return [...options].filter(([name]) => shown?.test(name) === true);
}
