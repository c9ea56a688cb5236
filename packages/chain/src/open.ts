/**
 * Opens an image with everything under it, following what each image names through the caller's gate.
 *
 * The walk is a loop, so that a chain of any length costs no stack; it ends with an error at a file that is in
 * the chain already and at 200 images. When any step fails, everything that was opened is closed again.
 */
import {
  type BackingReference,
  type BlockDevice,
  type BlockSource,
  checkedDevice,
  checkedSource,
  DiskError,
  type HostFile,
  type HostSource,
  type ImageFormat,
  isDiskError,
  type Layer,
  type LayerSource,
  type OpenSourceOptions,
  type SnapshotChoice,
} from '@strata/block';
import { ChainDevice, ChainSource } from './chain.ts';
import { DataFile } from './data-file.ts';
import type { OpenGate } from './gate.ts';
import type { Place, Places } from './places.ts';
import { formatNamed, probe } from './probe.ts';
import { printable } from './reference.ts';
import { type Resolution, resolve } from './resolve.ts';

/** More images than this in one chain are an error. */
export const longestChain = 200;

/** How to open a chain. */
export interface OpenOptions {
  /** The formats to know; one of them must be called `raw`. */
  readonly formats: readonly ImageFormat[];
  /** Judges every name that comes out of an image. */
  readonly gate: OpenGate;
  readonly places: Places;
  /** The top's format, or its name; without it the first bytes tell. */
  readonly format?: string | ImageFormat;
  /** Read even while another program writes: take no lock that it could refuse. */
  readonly share?: boolean;
  /** Of the top, which is opened for reading: the disk as this internal snapshot keeps it. */
  readonly snapshot?: SnapshotChoice;
  /**
   * Images under the top that the caller names, from the top down, in place of what the images above them record.
   * The gate is not asked about them.
   */
  readonly below?: readonly NamedImage[];
  /** The top's data file, named by the caller in place of what the image says. The gate is not asked about it. */
  readonly dataFile?: string | undefined;
  /** False: no image is opened that another one records; what is left to it reads as zeros that nobody wrote. */
  readonly backing?: boolean;
}

/** An image that the caller names. */
export interface NamedImage {
  readonly name: string;
  /** Without it the first bytes tell. */
  readonly format: string | ImageFormat | undefined;
  /** Its data file, in place of what it says itself. */
  readonly dataFile?: string | undefined;
}

/** An image of an opened chain. */
export interface ChainImage {
  /** As it was opened. */
  readonly path: string;
  /** What the image above says of it; undefined for the top. */
  readonly reference: BackingReference | undefined;
  readonly format: ImageFormat;
  readonly host: HostSource;
  /** Equal for two names of one file; undefined where that cannot be told. */
  readonly identity: string | undefined;
  /** Where the guest's data is, if not in `host`. */
  readonly dataHost: HostSource | undefined;
  readonly layer: LayerSource;
}

/** An opened chain. Disposing of it closes all of its files. */
export interface Chain extends AsyncDisposable {
  /** Top first. */
  readonly images: readonly ChainImage[];
  /** The disk, behind the gate. */
  readonly source: BlockSource;
  /** Who decides over `offset` and what follows it. */
  resolve(offset: number, limit: number): Promise<Resolution>;
}

/** An opened chain whose top can be written. Disposing of it stores what the top still holds in memory. */
export interface WritableChain extends Chain {
  readonly device: BlockDevice;
  /** The image that is written, for changes that are more than writing: its size, its options. */
  readonly top: WritableImage;
  /** What lies under the top, as a disk of `size` bytes: the `below` of the top's layer. */
  below(size: number): BlockSource;
}

/** An image of a chain that was opened for writing. */
export interface WritableImage extends ChainImage {
  readonly host: HostFile;
  readonly layer: Layer;
}

/**
 * Opens for reading.
 *
 * @throws {DiskError} everything that opening can meet; `context.path` says at which image
 */
export async function openChain(name: string, options: OpenOptions): Promise<Chain> {
  const images = await openImages(name, options, () => false);
  const { size } = (images[0] as ChainImage).layer;
  const source = checkedSource(new ChainSource(layersOf(images), size));
  return { ...chainOf(images), source };
}

/** Opens the top for writing and what is under it for reading. */
export async function openWritableChain(name: string, options: OpenOptions): Promise<WritableChain> {
  const images = await openImages(name, options, (index) => index === 0);
  const [top, ...rest] = images as [WritableImage, ...ChainImage[]];
  const device = checkedDevice(new ChainDevice(top.layer, layersOf(rest)));
  const below = (size: number): BlockSource => new ChainSource(layersOf(rest), size);
  return { ...chainOf(images), source: device, device, top, below };
}

/** The layers of images, in their order. */
export function layersOf(images: readonly ChainImage[]): readonly LayerSource[] {
  return images.map((image) => image.layer);
}

function chainOf(images: readonly ChainImage[]): Omit<Chain, 'source'> {
  const layers = layersOf(images);
  return {
    images,
    resolve: (offset, limit) => resolve(layers, offset, limit),
    [Symbol.asyncDispose]: () => closeImages(images),
  };
}

/**
 * Opens the images of a chain, top first; `writable` says which of them for writing.
 * The caller closes them with `closeImages`.
 */
export async function openImages(
  name: string,
  options: OpenOptions,
  writable: (index: number, path: string, reference: BackingReference | undefined) => boolean,
): Promise<readonly ChainImage[]> {
  const images: ChainImage[] = [];
  const seen = new Set<string>();
  let next: NextImage | undefined = { path: name, reference: undefined, ...topOf(options) };
  try {
    while (next !== undefined) {
      const { path, reference }: NextImage = next;
      if (images.length === longestChain) {
        throw new DiskError('limit', `more than ${longestChain} images in one chain`, { path: name });
      }
      const above = images.at(-1);
      const access = writable(images.length, path, reference) ? 'write' : 'read';
      const image: ChainImage = await openImage(next, above, access, options, seen);
      images.push(image);
      next = await below(image, images.length - 1, options);
    }
    return images;
  } catch (error) {
    await closeImages(images).catch(() => undefined);
    throw throughChain(error, images);
  }
}

/** An image that is to be opened. */
interface NextImage {
  readonly path: string;
  /** What the image above records; undefined if the caller names it. */
  readonly reference: BackingReference | undefined;
  readonly format: string | ImageFormat | undefined;
  readonly dataFile: string | undefined;
}

function topOf({ format, dataFile }: OpenOptions): Pick<NextImage, 'format' | 'dataFile'> {
  return { format, dataFile };
}

async function below(image: ChainImage, index: number, options: OpenOptions): Promise<NextImage | undefined> {
  const named = options.below?.[index];
  if (named !== undefined) {
    return { path: named.name, reference: undefined, format: named.format, dataFile: named.dataFile };
  }
  const reference = image.layer.backing;
  if (reference === undefined || options.backing === false) return undefined;
  const path = await options.gate.resolve(reference, image.path);
  return { path, reference, format: reference.format, dataFile: undefined };
}

async function openImage(
  { path, reference, format: named, dataFile }: NextImage,
  above: ChainImage | undefined,
  access: 'read' | 'write',
  options: OpenOptions,
  seen: Set<string>,
): Promise<ChainImage> {
  const { places, gate } = options;
  if (typeof named === 'string') formatNamed(named, options.formats);
  const place = access === 'write' ? await places.openFile(path) : await places.openSource(path);
  const data = new DataFile({ path, named: dataFile }, access, options, seen);
  try {
    if (reference !== undefined && above !== undefined && place.realPath !== undefined) {
      await gate.admit(place.realPath, reference, above.path);
    }
    if (place.identity !== undefined && seen.has(place.identity)) {
      throw new DiskError('corrupt', `Backing file '${printable(path)}' creates an infinite loop.`, { path });
    }
    if (place.identity !== undefined) seen.add(place.identity);
    const format = await formatOf(place, named, reference, access, options);
    await place.lock({ access, exclusive: format.exclusive, share: options.share ?? false });
    const layer = await (access === 'write'
      ? format.open(place.host as HostFile, { openDataFile: (name) => data.open(name) as Promise<HostFile> })
      : format.openSource(place.host, {
          ...(above === undefined && snapshotOf(options)),
          openDataFile: (name) => data.open(name),
        }));
    if (dataFile !== undefined && data.host === undefined) {
      await layer[Symbol.asyncDispose]();
      const message = "'data-file' can only be set for images with an external data file";
      throw new DiskError('invalid', message);
    }
    return {
      path,
      reference,
      format,
      host: place.host,
      identity: place.identity,
      dataHost: data.host,
      layer,
    };
  } catch (error) {
    await Promise.allSettled([data.host?.[Symbol.asyncDispose]()]);
    await Promise.allSettled([place.host[Symbol.asyncDispose]()]);
    throw located(error, path);
  }
}

function snapshotOf({ snapshot }: OpenOptions): OpenSourceOptions {
  return snapshot === undefined ? {} : { snapshot };
}

async function formatOf(
  place: Place<HostSource>,
  named: string | ImageFormat | undefined,
  reference: BackingReference | undefined,
  access: 'read' | 'write',
  options: OpenOptions,
): Promise<ImageFormat> {
  if (typeof named === 'string') return formatNamed(named, options.formats);
  if (named !== undefined) return named;
  if (access === 'write' && reference !== undefined) {
    const message = `no format is recorded for backing file '${printable(reference.name)}', and it is not guessed for writing`;
    throw new DiskError('denied', message);
  }
  const format = await probe(place.host, options.formats);
  if (access === 'write' && format.name === 'raw') {
    const message = 'the format was not specified and is not guessed as raw for writing';
    throw new DiskError('denied', message, { op: 'probe' });
  }
  return format;
}

/** Closes layers and files from the top down; every one is closed, and the first failure is reported. */
export async function closeImages(images: readonly ChainImage[]): Promise<void> {
  const failures: unknown[] = [];
  for (const { layer, host, dataHost } of images) {
    for (const part of [layer, host, dataHost]) {
      try {
        await part?.[Symbol.asyncDispose]();
      } catch (error) {
        failures.push(error);
      }
    }
  }
  if (failures.length > 0) throw failures[0];
}

function located(error: unknown, path: string): unknown {
  if (!isDiskError(error) || error.context.path !== undefined) return error;
  return new DiskError(error.code, error.message, { ...error.context, path, cause: error.cause });
}

/** Says of a failure below the top how the chain led to it, in QEMU's words. */
function throughChain(error: unknown, opened: readonly ChainImage[]): unknown {
  const top = opened[0];
  if (!isDiskError(error) || top === undefined) return error;
  const context = { ...error.context, path: top.path, cause: error };
  if (error.code === 'denied' || error.code === 'corrupt') {
    return new DiskError(error.code, error.message, context);
  }
  const steps = 'Could not open backing file: '.repeat(opened.length);
  return new DiskError(error.code, steps + openingSentence(error), context);
}

/** Why an image could not be opened, in QEMU's words: what the host refused is said with the path. */
export function openingSentence(error: DiskError): string {
  const { op, path } = error.context;
  const byHost = op === 'open' && error.cause !== undefined && !isDiskError(error.cause);
  return byHost ? `Could not open '${path}': ${error.message}` : error.message;
}
