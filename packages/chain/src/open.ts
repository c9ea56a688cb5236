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
  type ImageFormat,
  isDiskError,
  type LayerSource,
  type SnapshotChoice,
} from '@strata/block';
import { ChainDevice, ChainSource } from './chain.ts';
import type { OpenGate } from './gate.ts';
import { type ChainImage, closeImage, type NextImage, openImage, type WritableImage } from './open-image.ts';
import type { Places } from './places.ts';
import { type Resolution, resolve } from './resolve.ts';

export type { ChainImage, WritableImage } from './open-image.ts';

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

/** Closes layers and files from the top down; every one is closed, and the first failure is reported. */
export async function closeImages(images: readonly ChainImage[]): Promise<void> {
  const failures: unknown[] = [];
  for (const image of images) await closeImage(image).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
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
