/**
 * Opens what the user named: a path, a URI, or an image described node by node; and decides whose word is trusted.
 */
import { dirname } from 'node:path';
import {
  type BlockSource,
  DiskError,
  type HostFile,
  type HostSource,
  type ImageFormat,
  isDiskError,
  type SnapshotChoice,
} from '@strata/block';
import {
  allowFolders,
  allowLocal,
  type Chain,
  ChainSource,
  DataFile,
  type OpenGate,
  type OpenOptions,
  openChain,
  openingSentence,
  openWritableChain,
  type Place,
  type Places,
  probe,
  schemeOf,
  type WritableChain,
} from '@strata/chain';
import {
  type DescribedWish,
  describedDataFile,
  describedFolders,
  describedOpening,
  type Opening,
  openDescribed,
} from './described.ts';
import { inSectors } from './disk-size.ts';
import type { FormatSupport } from './formats/support.ts';
import { formats, supportNamed } from './known-formats.ts';
import { noObjects, type Objects } from './objects/objects.ts';
import { type FileManner, type LockChoice, useLocks } from './places/file.ts';
import { pathOf, typedPlaces } from './places/schemes.ts';
import { CommandError, UsageError } from './report.ts';
import type { FormatNode } from './typed/image-node.ts';
import { describedImage } from './typed/typed-name.ts';

/** How the user wants an image opened. */
export interface Wish {
  /** `--allow`: folders into which names of backing files are followed, beside those of the named files. */
  readonly allow: readonly string[];
  /** `-f`; undefined: probe. */
  readonly format: string | undefined;
  /** The format of an image that was made just now, as its options set it; it goes before `format`. */
  readonly made?: ImageFormat | undefined;
  /** `-U`. */
  readonly share?: boolean | undefined;
  readonly locks?: LockChoice;
  /** `-l`: which internal snapshot of the named image is read. */
  readonly snapshot?: SnapshotChoice | undefined;
  /** `-t unsafe`: nothing that is written is waited for. */
  readonly unsafe?: boolean;
  /** False: no image under the named one is opened: nothing is asked that they would have to answer. */
  readonly backing?: false;
  /** `--reconnect-delay`. */
  readonly reconnectDelayMs?: number | undefined;
  /** `--image-opts`: the names are lists of options. */
  readonly imageOptions?: boolean | undefined;
  /** What `--object` defined. */
  readonly objects?: Objects;
}

/** What the libraries need to open images by themselves. @param names what the user typed */
export function openingFor(names: readonly string[], wish: Wish): OpenOptions {
  const { share, snapshot } = wish;
  const format = wish.made ?? wish.format;
  return {
    formats: formats.map((support) => support.format),
    gate: gateFor(names, wish),
    places: typedPlaces(mannerOf(wish)),
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
export function gateFor(names: readonly string[], wish: Pick<Wish, 'allow' | 'imageOptions'>): OpenGate {
  return allowFolders([...foldersOf(names, wish), ...wish.allow]);
}

/** The folders of those of `names` that are files. */
export function foldersOf(
  names: readonly string[],
  manner: Pick<Wish, 'imageOptions'> = {},
): readonly string[] {
  return names.flatMap((name) => {
    const { imageOptions } = manner;
    try {
      const described = describedImage(name, { imageOptions });
      if (described !== undefined) return describedFolders(described, noObjects);
    } catch {
      // What is wrong with a description is told when it is opened.
      return [];
    }
    return (schemeOf(name) ?? 'file') === 'file' ? [dirname(pathOf(name))] : [];
  });
}

/** What opens the image that the user named `text`. @throws {UsageError} @throws {DiskError} */
export function openingOf(text: string, wish: Wish): Opening {
  const described = describedImage(text, wish);
  const { name, options } =
    described === undefined
      ? { name: text, options: openingFor([text], wish) }
      : describedOpening(described, describedWish(wish));
  return { name, options: wish.backing === false ? { ...options, backing: false } : options };
}

/** What opens a described image. @throws {DiskError} */
export function openingOfNode(node: FormatNode, wish: Wish): Opening {
  return describedOpening(node, describedWish(wish));
}

function mannerOf({ locks = useLocks, unsafe = false, reconnectDelayMs }: Omit<Wish, 'allow'>): FileManner {
  return { locks, unsafe, reconnectDelayMs };
}

function describedWish(wish: Wish): DescribedWish {
  const { allow, objects = noObjects, share, snapshot } = wish;
  return { allow, objects, share, snapshot, manner: mannerOf(wish) };
}

/** An image with everything under it, opened for reading. @throws {CommandError} with the exit status given */
export async function openDisk(name: string, wish: Wish, status = 1): Promise<Chain> {
  try {
    const opening = openingOf(name, wish);
    return await openChain(opening.name, opening.options);
  } catch (error) {
    throw cannotOpen(name, error, status);
  }
}

/** An image opened for writing, what is under it for reading. @throws {CommandError} */
export async function openWritableDisk(name: string, wish: Wish): Promise<WritableChain> {
  try {
    const opening = openingOf(name, wish);
    return await openWritableChain(opening.name, opening.options);
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
  open: (name: string, index: number) => Promise<T>,
): Promise<OpenedAll<T>> {
  const opened: T[] = [];
  const close = async (): Promise<void> => {
    const closed = await Promise.allSettled(opened.map((each) => each[Symbol.asyncDispose]()));
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
  };
  try {
    for (const [index, name] of names.entries()) opened.push(await open(name, index));
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

/**
 * Opens the file in which the image keeps its guest data, if it has such a file: what is asked of the image alone
 * presumes that it is there and that nobody changes its size.
 *
 * @throws {CommandError}
 */
export async function openDataFile(
  name: string,
  { filename, support, host }: OpenedImage,
  wish: Wish,
): Promise<AsyncDisposable> {
  try {
    // What is wrong with the header is told by who reads it next.
    const recorded = await support.dataFile?.(host).catch(() => undefined);
    if (recorded === undefined) return { [Symbol.asyncDispose]: async () => undefined };
    const { share = false } = wish;
    const options = { gate: gateFor([name], wish), places: typedPlaces(mannerOf(wish)), share };
    const described = describedImage(name, wish);
    const named = described && describedDataFile(described, wish.objects ?? noObjects);
    return await new DataFile({ path: filename, named }, 'read', options, new Set()).open(recorded);
  } catch (error) {
    throw cannotOpen(name, error);
  }
}

/** The same, opened to be changed. */
export interface OpenedFile extends OpenedImage {
  readonly host: HostFile;
}

/** @throws {CommandError} */
export function openImage(name: string, wish: Omit<Wish, 'allow'>): Promise<OpenedImage> {
  return openAlone(name, wish, 'read', (places, place) => places.openSource(place));
}

/** @throws {CommandError} */
export async function openImageFile(name: string, wish: Omit<Wish, 'allow'>): Promise<OpenedFile> {
  if (wish.share) {
    const message = 'force-share=on can only be used with read-only images';
    throw cannotOpen(name, new DiskError('invalid', message));
  }
  return openAlone(name, wish, 'write', (places, place) => places.openFile(place));
}

async function openAlone<Host extends HostSource>(
  name: string,
  wish: Omit<Wish, 'allow'>,
  access: 'read' | 'write',
  open: OpenPlace<Host>,
): Promise<OpenedImage & { readonly host: Host }> {
  try {
    const { place, support, shown } = await imageAt(name, { ...wish, allow: [] }, open);
    const { host, realPath } = place;
    try {
      const found = support ?? (await supportOf(host, wish.format));
      const { exclusive } = found.format;
      await place.lock({ access, exclusive, share: wish.share ?? false });
      const dispose = () => host[Symbol.asyncDispose]();
      const filename = shown ?? host.path ?? name;
      return { filename, support: found, host, realPath, [Symbol.asyncDispose]: dispose };
    } catch (error) {
      await Promise.allSettled([host[Symbol.asyncDispose]()]);
      throw error;
    }
  } catch (error) {
    throw cannotOpen(name, error);
  }
}

/** Opens a place, for reading or for writing. */
type OpenPlace<Host extends HostSource> = (places: Places, name: string) => Promise<Place<Host>>;

/** The file of one image, with what a description says of it. */
interface ImageAt<Host extends HostSource> {
  readonly place: Place<Host>;
  readonly support: FormatSupport | undefined;
  readonly shown: string | undefined;
}

async function imageAt<Host extends HostSource>(
  text: string,
  wish: Wish,
  open: OpenPlace<Host>,
): Promise<ImageAt<Host>> {
  const node = describedImage(text, wish);
  if (node === undefined) {
    const place = await open(typedPlaces(mannerOf(wish)), text);
    return { place, support: undefined, shown: undefined };
  }
  return openDescribed(node, describedWish(wish), open);
}

async function supportOf(host: HostSource, named: string | undefined): Promise<FormatSupport> {
  const known = formats.map((support) => support.format);
  const name = named ?? (await probe(host, known)).name;
  const support = supportNamed(name);
  if (!support) throw new DiskError('not-supported', `Unknown driver '${name}'`);
  return support;
}

/** What ends a command that cannot open `name`; anything but a DiskError stays what it is. */
export function cannotOpen(name: string, error: unknown, status = 1): unknown {
  if (error instanceof UsageError) return new CommandError(error.message, { status, cause: error });
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
