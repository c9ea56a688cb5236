/**
 * The images of a command line as exports: opened as the options want it, cut to the part that is wanted, under
 * their names.
 */
import { basename } from 'node:path';
import { type BlockDevice, type BlockSource, deviceWindow, isDiskError, sourceWindow } from '@strata/block';
import { type Chain, printable, type WritableChain } from '@strata/chain';
import type { LiveDisk } from '@strata/live';
import {
  allocationDepth,
  baseAllocation,
  type Export,
  isNbdUri,
  type MetaContext,
  parseNbdUri,
} from '@strata/nbd';
import type { ServedDisk } from '../control/control.ts';
import type { Graph } from '../control/graph.ts';
import { foldersOf, type OpenedAll, openAll, openDisk, openWritableDisk, type Wish } from '../open.ts';
import { serveLocks } from '../places/file.ts';
import { CommandError } from '../report.ts';
import { bitmapContexts } from './bitmaps.ts';
import { inManner } from './manner.ts';
import type { ServeOptions } from './options.ts';

/** One operand: a file, or `NAME=FILE`. */
interface Named {
  readonly name: string | undefined;
  readonly file: string;
}

/** An image that is open. */
interface OpenedDisk extends AsyncDisposable {
  readonly source: BlockSource;
  /** Undefined: for reading only. */
  readonly device: BlockDevice | undefined;
  /** What clients may ask of it. */
  readonly contexts: readonly MetaContext[];
  /** The same, if the server can be steered: the graph closes it then. */
  readonly live: LiveDisk | undefined;
  /** Gives back what the contexts keep busy. */
  release(): void;
}

/** A disk and the images that it is made of. */
interface WholeDisk extends Omit<OpenedDisk, 'contexts' | 'release'> {
  readonly chain: Chain;
}

/** Makes an opened chain a disk of the graph. @throws {DiskError} for the name of its node */
type Adopt = (chain: Chain | WritableChain) => LiveDisk;

/** All exports, those with the shorter URI first; the disks close with it. */
export interface OpenedExports extends AsyncDisposable {
  readonly exports: readonly Export[];
  /** The same with their disks, if the server can be steered. */
  readonly served: readonly ServedDisk[];
}

/** @param graph takes over the disks, if the server is to be steered @throws {CommandError} */
export async function openExports(
  operands: readonly string[],
  given: ServeOptions,
  graph?: Graph,
): Promise<OpenedExports> {
  const named = operands.map((operand) =>
    given.imageOptions ? { name: undefined, file: operand } : splitName(operand),
  );
  const files = named.map(({ file }) => file);
  const wish = servingWish(files, given);
  const disks: OpenedAll<OpenedDisk> = await openAll(files, (file, index) => {
    const name = named[index]?.name ?? `disk${index}`;
    return openToServe(file, wish, given, graph && ((chain) => graph.adopt(chain, name)));
  });
  try {
    const all = named.map((each, index) =>
      exportsOf(each, disks.opened[index] as OpenedDisk, operands.length === 1, given),
    );
    const exports = all.flat();
    refuseTwins(exports);
    const served = all.flatMap((own, index) => servedDisks(own, disks.opened[index] as OpenedDisk));
    return { exports, served, [Symbol.asyncDispose]: () => disks[Symbol.asyncDispose]() };
  } catch (error) {
    await Promise.allSettled([disks[Symbol.asyncDispose]()]);
    throw error;
  }
}

/** How images are opened to be served. @param files whose folders may hold what they name */
export function servingWish(files: readonly string[], given: ServeOptions): Wish {
  return {
    allow: [...given.allow, ...foldersOf(files, given)],
    imageOptions: given.imageOptions,
    objects: given.objects,
    format: given.format,
    snapshot: given.loaded,
    locks: serveLocks,
    unsafe: given.cache[0] === 'unsafe',
  };
}

/** The exports of one disk. What they keep busy is given back when all of them are gone. */
function servedDisks(own: readonly Export[], { live, release }: OpenedDisk): readonly ServedDisk[] {
  if (live === undefined) return [];
  let left = own.length;
  const leave = (): void => {
    if (--left === 0) release();
  };
  return own.map((offered) => ({ offered, disk: live, release: leave }));
}

/** What stands before `=` is a name, unless it looks like the beginning of a path, a URI or a list of options. */
function splitName(operand: string): Named {
  const equals = operand.indexOf('=');
  const name = operand.slice(0, Math.max(0, equals));
  if (equals < 1 || /[/:,]/.test(name)) return { name: undefined, file: operand };
  return { name, file: operand.slice(equals + 1) };
}

async function openToServe(
  file: string,
  wish: Wish,
  given: ServeOptions,
  adopt: Adopt | undefined,
): Promise<OpenedDisk> {
  const disk = await openWhole(file, wish, given, adopt);
  try {
    const { start, ...part } = await partOf(disk, given);
    const { contexts: bitmaps, release } = await bitmapContexts(disk.chain, given, start);
    const contexts = [baseAllocation(part.source), allocationDepth(part.source), ...bitmaps];
    const dispose = (): PromiseLike<void> => disk[Symbol.asyncDispose]();
    return { ...part, contexts, live: disk.live, release, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await Promise.allSettled([disk[Symbol.asyncDispose]()]);
    throw isDiskError(error) ? new CommandError(error.message, { cause: error }) : error;
  }
}

async function openWhole(
  file: string,
  wish: Wish,
  given: ServeOptions,
  adopt: Adopt | undefined,
): Promise<WholeDisk> {
  const isRead = given.readOnly || given.loaded !== undefined;
  if (!isRead && !given.snapshot) {
    const chain = await openToWrite(file, wish);
    const { live, dispose } = await adopted(chain, adopt);
    const device = inManner(live ?? chain.device, given);
    return { chain, source: device, device, live, [Symbol.asyncDispose]: dispose };
  }
  const chain = await openDisk(file, wish);
  if (!given.snapshot || given.readOnly) {
    const { live, dispose } = await adopted(chain, adopt);
    return { chain, source: live ?? chain.source, device: undefined, live, [Symbol.asyncDispose]: dispose };
  }
  try {
    const { openOverlay } = await import('./overlay.ts');
    const overlay = await openOverlay(file, chain);
    const device = inManner(overlay.device, given);
    const dispose = async (): Promise<void> => {
      await overlay[Symbol.asyncDispose]();
      await chain[Symbol.asyncDispose]();
    };
    return { chain, source: device, device, live: undefined, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await Promise.allSettled([chain[Symbol.asyncDispose]()]);
    throw isDiskError(error)
      ? new CommandError(`Could not create temporary overlay: ${error.message}`, { cause: error })
      : error;
  }
}

/** The disk of a chain in the graph, if there is one, and what closes the chain if it is not there. */
async function adopted(chain: Chain | WritableChain, adopt: Adopt | undefined) {
  const close = (): PromiseLike<void> => chain[Symbol.asyncDispose]();
  if (adopt === undefined) return { live: undefined, dispose: close };
  try {
    return { live: adopt(chain), dispose: () => Promise.resolve() };
  } catch (error) {
    await close();
    throw isDiskError(error) ? new CommandError(error.message, { cause: error }) : error;
  }
}

/** A raw image is written to only by those who say that it is raw: its first bytes are the guest's to choose. */
async function openToWrite(file: string, wish: Wish): ReturnType<typeof openWritableDisk> {
  try {
    return await openWritableDisk(file, wish);
  } catch (error) {
    if (!(error instanceof CommandError) || !isDiskError(error.cause)) throw error;
    if (error.cause.context.op !== 'probe') throw error;
    throw new CommandError(`${error.message}, or '-r' to export it for reading`, { cause: error.cause });
  }
}

/** A part of a disk, from `start` of it on. */
interface DiskPart extends Pick<OpenedDisk, 'source' | 'device'> {
  readonly start: number;
}

/** The part that `-o` or `-P` asks for. */
async function partOf(
  { source, device }: Pick<OpenedDisk, 'source' | 'device'>,
  { offset, partition }: ServeOptions,
): Promise<DiskPart> {
  if (offset === undefined && partition === undefined) return { source, device, start: 0 };
  const range =
    partition === undefined
      ? restFrom(offset ?? 0, source.size)
      : await (await import('./partition-table.ts')).findPartition(source, partition);
  const { start } = range;
  if (device === undefined) return { source: sourceWindow(source, start, range.size), device, start };
  const part = deviceWindow(device, start, range.size);
  return { source: part, device: part, start };
}

function restFrom(offset: number, size: number): { readonly start: number; readonly size: number } {
  if (offset <= size) return { start: offset, size: size - offset };
  throw new CommandError(`Offset (${offset}) cannot be greater than size of the containing file (${size})`);
}

/** The exports of one image. */
function exportsOf(
  { name, file }: Named,
  { source, device, contexts }: OpenedDisk,
  isOnly: boolean,
  { description, exportName, imageOptions }: ServeOptions,
): readonly Export[] {
  const disk = { ...(device === undefined ? { source } : { device }), contexts };
  const chosen = name ?? exportName;
  const own = imageOptions || file.startsWith('json:') ? undefined : shortName(file);
  if (chosen === undefined && own === undefined && !isOnly) {
    throw new CommandError(
      `an image among others that is described by its options needs a name: NAME=${file}`,
    );
  }
  const names =
    chosen === undefined ? [...(isOnly ? [''] : []), ...(own === undefined ? [] : [own])] : [chosen];
  return names.map((each) => ({ name: each, ...disk, ...(description !== undefined && { description }) }));
}

function shortName(file: string): string {
  return isNbdUri(file) ? parseNbdUri(file).exportName : basename(file);
}

function refuseTwins(exports: readonly Export[]): void {
  const names = exports.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice === undefined) return;
  throw new CommandError(
    `two images would have the export name '${printable(twice)}'; NAME=FILE gives one another name`,
  );
}
