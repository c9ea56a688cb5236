/**
 * The images of a command line as exports: opened as the options want it, cut to the part that is wanted, under
 * their names.
 */
import { basename } from 'node:path';
import { type BlockDevice, type BlockSource, deviceWindow, isDiskError, sourceWindow } from '@strata/block';
import { type Chain, printable } from '@strata/chain';
import {
  allocationDepth,
  baseAllocation,
  type Export,
  isNbdUri,
  type MetaContext,
  parseNbdUri,
} from '@strata/nbd';
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
}

/** A disk and the images that it is made of. */
interface WholeDisk extends Omit<OpenedDisk, 'contexts'> {
  readonly chain: Chain;
}

/** All exports, those with the shorter URI first; the disks close with it. */
export interface OpenedExports extends AsyncDisposable {
  readonly exports: readonly Export[];
}

/** @throws {CommandError} */
export async function openExports(operands: readonly string[], given: ServeOptions): Promise<OpenedExports> {
  const named = operands.map((operand) =>
    given.imageOptions ? { name: undefined, file: operand } : splitName(operand),
  );
  const files = named.map(({ file }) => file);
  const wish: Wish = {
    allow: [...given.allow, ...foldersOf(files, given)],
    imageOptions: given.imageOptions,
    objects: given.objects,
    format: given.format,
    snapshot: given.loaded,
    locks: serveLocks,
    unsafe: given.cache[0] === 'unsafe',
  };
  const disks: OpenedAll<OpenedDisk> = await openAll(files, (file) => openToServe(file, wish, given));
  try {
    const exports = named.flatMap((each, index) =>
      exportsOf(each, disks.opened[index] as OpenedDisk, operands.length === 1, given),
    );
    refuseTwins(exports);
    return { exports, [Symbol.asyncDispose]: () => disks[Symbol.asyncDispose]() };
  } catch (error) {
    await Promise.allSettled([disks[Symbol.asyncDispose]()]);
    throw error;
  }
}

/** What stands before `=` is a name, unless it looks like the beginning of a path, a URI or a list of options. */
function splitName(operand: string): Named {
  const equals = operand.indexOf('=');
  const name = operand.slice(0, Math.max(0, equals));
  if (equals < 1 || /[/:,]/.test(name)) return { name: undefined, file: operand };
  return { name, file: operand.slice(equals + 1) };
}

async function openToServe(file: string, wish: Wish, given: ServeOptions): Promise<OpenedDisk> {
  const disk = await openWhole(file, wish, given);
  try {
    const { start, ...part } = await partOf(disk, given);
    const bitmaps = await bitmapContexts(disk.chain, given, start);
    const contexts = [baseAllocation(part.source), allocationDepth(part.source), ...bitmaps];
    return { ...part, contexts, [Symbol.asyncDispose]: () => disk[Symbol.asyncDispose]() };
  } catch (error) {
    await Promise.allSettled([disk[Symbol.asyncDispose]()]);
    throw isDiskError(error) ? new CommandError(error.message, { cause: error }) : error;
  }
}

async function openWhole(file: string, wish: Wish, given: ServeOptions): Promise<WholeDisk> {
  const isRead = given.readOnly || given.loaded !== undefined;
  if (!isRead && !given.snapshot) {
    const chain = await openToWrite(file, wish);
    const device = inManner(chain.device, given);
    return { chain, source: device, device, [Symbol.asyncDispose]: () => chain[Symbol.asyncDispose]() };
  }
  const chain = await openDisk(file, wish);
  if (!given.snapshot || given.readOnly) {
    return {
      chain,
      source: chain.source,
      device: undefined,
      [Symbol.asyncDispose]: () => chain[Symbol.asyncDispose](),
    };
  }
  try {
    const { openOverlay } = await import('./overlay.ts');
    const overlay = await openOverlay(file, chain);
    const device = inManner(overlay.device, given);
    const dispose = async (): Promise<void> => {
      await overlay[Symbol.asyncDispose]();
      await chain[Symbol.asyncDispose]();
    };
    return { chain, source: device, device, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await Promise.allSettled([chain[Symbol.asyncDispose]()]);
    throw isDiskError(error)
      ? new CommandError(`Could not create temporary overlay: ${error.message}`, { cause: error })
      : error;
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
