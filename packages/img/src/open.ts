/**
 * What the command can open: the formats, the places, and whose word is trusted.
 *
 * A new format is a line in `formats`, a new place for bytes a line in `schemes`. What a person types may name any
 * of them; what an image names may be a file of this machine and nothing else.
 */
import { dirname } from 'node:path';
import {
  type BlockSource,
  DiskError,
  type HostSource,
  isDiskError,
  type SnapshotChoice,
} from '@strata/block';
import {
  allowFolders,
  allowLocal,
  type Chain,
  ChainSource,
  type OpenGate,
  type OpenOptions,
  openChain,
  openingSentence,
  openWritableChain,
  type Places,
  probe,
  schemeOf,
  type WritableChain,
} from '@strata/chain';
import { inSectors } from './disk-size.ts';
import { qcow2Support } from './formats/qcow2.ts';
import { rawSupport } from './formats/raw.ts';
import type { FormatSupport } from './formats/support.ts';
import { type FileManner, filePlaces, type LockChoice, useLocks } from './places/file.ts';
import { CommandError } from './report.ts';

/** The formats that the command knows; probing asks them in this order. */
const formats: readonly FormatSupport[] = [qcow2Support, rawSupport];

/** The places that a name can begin with, and how to go about them. A name without a scheme is a file. */
const schemes: Readonly<Record<string, (manner: FileManner) => Promise<Places>>> = {
  file: async (manner) => filePlaces(manner),
  nbd: async () => (await import('./places/nbd.ts')).nbdPlaces,
  'nbd+unix': async () => (await import('./places/nbd.ts')).nbdPlaces,
};

/** How `name` says where the image is: `file`, or what stands before its colon. @throws {DiskError} not-supported */
export function schemeName(name: string): string {
  const scheme = schemeOf(name) ?? 'file';
  if (Object.hasOwn(schemes, scheme)) return scheme;
  throw new DiskError('not-supported', `Unknown protocol '${scheme}'`, { path: name });
}

/** The path in a file's name. `file:` in front of it is a way to say that a colon follows; so is `./`. */
export function pathOf(name: string): string {
  if (!name.startsWith('file:')) return name;
  const path = name.slice('file:'.length);
  return schemeOf(path) === undefined ? path : `./${path}`;
}

/** Opens what a person typed. */
function placesFor({ locks = useLocks, unsafe = false }: Omit<Wish, 'allow'>): Places {
  const placeOf = async (name: string): Promise<Places> => {
    const open = schemes[schemeName(name)];
    if (name === '') throw new DiskError('invalid', "The 'file' block driver requires a file name");
    return (open as NonNullable<typeof open>)({ locks, unsafe });
  };
  return {
    openSource: async (name) => (await placeOf(name)).openSource(pathOf(name)),
    openFile: async (name) => (await placeOf(name)).openFile(pathOf(name)),
  };
}

/** How the user wants an image opened. */
export interface Wish {
  /** `--allow`: folders into which names of backing files are followed, beside those of the named files. */
  readonly allow: readonly string[];
  /** `-f`; undefined: probe. */
  readonly format: string | undefined;
  /** `-U`. */
  readonly share?: boolean | undefined;
  readonly locks?: LockChoice;
  /** `-l`: which internal snapshot of the named image is read. */
  readonly snapshot?: SnapshotChoice | undefined;
  /** `-t unsafe`: nothing that is written is waited for. */
  readonly unsafe?: boolean;
}

/** What the libraries need to open images by themselves. @param names what the user typed */
export function openingFor(names: readonly string[], wish: Wish): OpenOptions {
  const { format, share, snapshot } = wish;
  return {
    formats: formats.map((support) => support.format),
    gate: gateFor(names, wish),
    places: placesFor(wish),
    ...(format !== undefined && { format }),
    ...(share !== undefined && { share }),
    ...(snapshot !== undefined && { snapshot }),
  };
}

/** `allow`, with the folder of a backing file that the user typed for the image `name`. @throws {DiskError} denied */
export async function allowingBacking(
  allow: readonly string[],
  backing: string | undefined,
  name: string,
): Promise<readonly string[]> {
  if (backing === undefined) return allow;
  const path = await allowLocal.resolve({ name: backing, format: undefined }, name);
  return [...allow, dirname(path)];
}

/** Where names that images record may lead: into the folders of the files that the user named, and those allowed. */
export function gateFor(names: readonly string[], { allow }: Pick<Wish, 'allow'>): OpenGate {
  return allowFolders([...foldersOf(names), ...allow]);
}

/** The folders of those of `names` that are files. */
export function foldersOf(names: readonly string[]): readonly string[] {
  const files = names.filter((name) => (schemeOf(name) ?? 'file') === 'file');
  return files.map((name) => dirname(pathOf(name)));
}

/** An image with everything under it, opened for reading. @throws {CommandError} with the exit status given */
export async function openDisk(name: string, wish: Wish, status = 1): Promise<Chain> {
  try {
    return await openChain(name, openingFor([name], wish));
  } catch (error) {
    throw cannotOpen(name, error, status);
  }
}

/** An image opened for writing, what is under it for reading. @throws {CommandError} */
export async function openWritableDisk(name: string, wish: Wish): Promise<WritableChain> {
  try {
    return await openWritableChain(name, openingFor([name], wish));
  } catch (error) {
    throw cannotOpen(name, error, 1);
  }
}

/** Several that were opened together. Disposing of it closes them all. */
export interface OpenedAll<T> extends AsyncDisposable {
  readonly opened: readonly T[];
}

/** Opens all of `names`, or none. */
export async function openAll<T extends AsyncDisposable>(
  names: readonly string[],
  open: (name: string) => Promise<T>,
): Promise<OpenedAll<T>> {
  const opened: T[] = [];
  const close = async (): Promise<void> => {
    const closed = await Promise.allSettled(opened.map((each) => each[Symbol.asyncDispose]()));
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
  };
  try {
    for (const name of names) opened.push(await open(name));
    return { opened, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}

/** The disk of a chain as QEMU's tools see it: padded to whole sectors. */
export function paddedDisk(chain: Chain): BlockSource {
  const size = inSectors(chain.source.size);
  if (size === chain.source.size) return chain.source;
  return new ChainSource(
    chain.images.map((image) => image.layer),
    size,
  );
}

/** One image file by itself, opened to look into it. Its backing file is not opened. */
export interface OpenedImage extends AsyncDisposable {
  /** As QEMU's tools show it. */
  readonly filename: string;
  readonly support: FormatSupport;
  readonly host: HostSource;
  /** The file behind the name, every link followed; undefined where there is no file. */
  readonly realPath: string | undefined;
}

/** @throws {CommandError} */
export async function openImage(name: string, wish: Omit<Wish, 'allow'>): Promise<OpenedImage> {
  try {
    const place = await placesFor(wish).openSource(name);
    const { host, realPath } = place;
    try {
      const support = await supportOf(host, wish.format);
      const { exclusive } = support.format;
      await place.lock({ access: 'read', exclusive, share: wish.share ?? false });
      const dispose = () => host[Symbol.asyncDispose]();
      return { filename: host.path ?? name, support, host, realPath, [Symbol.asyncDispose]: dispose };
    } catch (error) {
      await Promise.allSettled([host[Symbol.asyncDispose]()]);
      throw error;
    }
  } catch (error) {
    throw cannotOpen(name, error);
  }
}

async function supportOf(host: HostSource, named: string | undefined): Promise<FormatSupport> {
  const known = formats.map((support) => support.format);
  const name = named ?? (await probe(host, known)).name;
  const support = supportNamed(name);
  if (!support) throw new DiskError('not-supported', `Unknown driver '${name}'`);
  return support;
}

/** The format called `name`, if the command knows it. */
export function supportNamed(name: string): FormatSupport | undefined {
  return formats.find((support) => support.format.name === name);
}

/** What ends a command that cannot open `name`; anything but a DiskError stays what it is. */
export function cannotOpen(name: string, error: unknown, status = 1): unknown {
  if (!isDiskError(error)) return error;
  if (error.context.op === 'snapshot')
    return new CommandError(`Failed to load snapshot: ${error.message}`, { status, cause: error });
  const message = `Could not open '${name}': ${openingSentence(error)}${advice(error)}`;
  return new CommandError(message, { status, hint: openingHint(error), cause: error });
}

/** What the user can do about it. */
function advice({ context }: DiskError): string {
  if (context.op === 'gate') return '; --allow FOLDER permits it';
  return context.op === 'probe' ? "; add '-f raw' if it is raw" : '';
}

/** The line that follows the sentence, if the reason calls for one. */
export function openingHint(error: DiskError): string {
  if (error.code !== 'busy') return '';
  const { cause } = error;
  return isDiskError(cause)
    ? openingHint(cause)
    : `Is another process using the image [${error.context.path}]?\n`;
}
