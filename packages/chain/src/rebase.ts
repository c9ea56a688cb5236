/**
 * Rebase: an image gets another backing file, or none, and goes on reading as it did.
 *
 * What the old and the new chain below differ in is copied into the image first; only when that is durable does the
 * header name the new backing file. So whatever interrupts a rebase leaves an image that reads the same. The
 * parts of both chains that are one and the same file are not compared.
 */
import {
  type BackingReference,
  type BlockDevice,
  type BlockSource,
  type CopyDifferencesOptions,
  copyDifferences,
  DiskError,
  isDiskError,
  type Layer,
  type TransferOptions,
} from '@strata/block';
import { ChainDevice, ChainSource } from './chain.ts';
import {
  type ChainImage,
  closeImages,
  layersOf,
  type OpenOptions,
  openImages,
  type WritableImage,
} from './open.ts';
import { resolve, tryResolve } from './resolve.ts';

/** What is to be under the image. */
export interface NewBacking {
  /** As the image will record it. Without a format nothing is recorded, and the rebase is refused. */
  readonly reference: BackingReference;
  /** What to open, and how. */
  readonly path: string;
  readonly open: OpenOptions;
}

/** The steps at which a rebase can fail, as `context.op` of its errors tells. */
export type RebaseStep = 'open-new' | 'read-old' | 'read-new' | 'write' | 'map' | 'record';

/**
 * Puts `backing` under the image `name`, or nothing.
 *
 * @throws {DiskError} invalid if the format of the new backing file is not given; not-supported if the image's format
 *   records none; and everything that opening, reading and writing can meet. `context.op` is a `RebaseStep` when
 *   the image itself was opened.
 */
export async function rebase(
  name: string,
  open: OpenOptions,
  backing: NewBacking | undefined,
  options: TransferOptions = {},
): Promise<void> {
  const old = await openImages(name, open, (index) => index === 0);
  await closing(old, async () => {
    const now = backing === undefined ? [] : await openNew(backing);
    await closing(now, async () => {
      const top = old[0] as WritableImage;
      checkRecordable(top, backing?.reference);
      await copyInto(top, old.slice(1), now, options);
      await record(top, backing?.reference);
    });
  });
}

/**
 * Records another backing file, or none, and looks at neither: for one that has moved, or was put in the place
 * of one that reads the same. If it does not read the same, the image does not either.
 *
 * @throws {DiskError} as `rebase`
 */
export async function rebaseUnchecked(
  name: string,
  open: OpenOptions,
  reference: BackingReference | undefined,
): Promise<void> {
  const images = await openImages(name, { ...open, backing: false }, () => true);
  await closing(images, async () => {
    const top = images[0] as WritableImage;
    checkRecordable(top, reference);
    await record(top, reference);
  });
}

/** Runs `work` and closes `images`; what fails first is thrown. */
async function closing(images: readonly ChainImage[], work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    await closeImages(images).catch(() => undefined);
    throw error;
  }
  await closeImages(images);
}

async function openNew({ path, open }: NewBacking): Promise<readonly ChainImage[]> {
  return openImages(path, open, () => false).catch((error: unknown) => {
    throw inRebase(error, 'open-new');
  });
}

/** Refuses what could not be recorded before anything is copied. */
function checkRecordable({ layer }: WritableImage, reference: BackingReference | undefined): void {
  if (reference !== undefined && reference.format === undefined) {
    throw new DiskError('invalid', 'backing format must be specified', { op: 'record' });
  }
  if (layer.changeBacking === undefined) {
    throw new DiskError('not-supported', 'Operation not supported', { op: 'record' });
  }
}

async function record({ layer }: WritableImage, reference: BackingReference | undefined): Promise<void> {
  await layer.changeBacking?.(reference).catch((error: unknown) => {
    throw inRebase(error, 'record');
  });
}

async function copyInto(
  top: WritableImage,
  old: readonly ChainImage[],
  now: readonly ChainImage[],
  options: TransferOptions,
): Promise<void> {
  const { size } = top.layer;
  const wanted = told(new ChainSource(layersOf(old), size), 'read-old');
  const other = told(new ChainSource(layersOf(now), size), 'read-new');
  const target = keepingZeros(new ChainDevice(top.layer, layersOf(old)), top.layer);
  const layers = [top.layer, ...layersOf(old)];
  const shared = 1 + sharedFrom(old, now);
  const select: CopyDifferencesOptions['select'] = async (offset, limit) => {
    const found = tryResolve(layers, offset, limit) ?? (await resolve(layers, offset, limit));
    const isOwn = found.layer === 0 && found.mapping.kind !== 'below';
    return { length: found.mapping.length, wanted: !isOwn && found.layer < shared };
  };
  try {
    await copyDifferences(wanted, other, target, { ...options, select });
    await target.flush();
  } catch (error) {
    throw inRebase(error, stepOf(error));
  }
}

/**
 * `device`, whose zeros hide what is put under them later: a format without zero clusters may leave them out while
 * nothing is below, and is then made to keep space for them.
 */
function keepingZeros(device: BlockDevice, layer: Layer): BlockDevice {
  const zero = async (offset: number, length: number): Promise<void> => {
    await device.zero(offset, length);
    for (let at = offset; at < offset + length; ) {
      const mapping = await layer.map(at, offset + length - at);
      if (mapping.kind === 'below') await device.zero(at, mapping.length, { allocate: true });
      at += mapping.length;
    }
  };
  return {
    size: device.size,
    caps: device.caps,
    read: (into, offset) => device.read(into, offset),
    tryRead: (into, offset) => device.tryRead(into, offset),
    extentAt: (offset, limit) => device.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => device.tryExtentAt(offset, limit),
    write: (from, offset) => device.write(from, offset),
    zero,
    discard: (offset, length) => device.discard(offset, length),
    flush: () => device.flush(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** `source`, whose failures tell that they are its own. */
function told(source: BlockSource, step: RebaseStep): BlockSource {
  const tell = (error: unknown): never => {
    throw inRebase(error, step);
  };
  return {
    size: source.size,
    read: (into, offset) => source.read(into, offset).catch(tell),
    tryRead: (into, offset) => source.tryRead(into, offset),
    extentAt: (offset, limit) => source.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => source.tryExtentAt(offset, limit),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function stepOf(error: unknown): RebaseStep {
  if (!isDiskError(error)) return 'write';
  if (error.context.op === 'read' && isDiskError(error.cause)) return error.cause.context.op as RebaseStep;
  return error.context.op === 'map' ? 'map' : 'write';
}

function inRebase(error: unknown, op: RebaseStep): unknown {
  if (!isDiskError(error)) return error;
  return new DiskError(error.code, error.message, { ...error.context, op, cause: error });
}

/** The place in the old chain from which on it is the whole new one; its length if the two have nothing in common. */
function sharedFrom(old: readonly ChainImage[], now: readonly ChainImage[]): number {
  const same = (a: ChainImage, b: ChainImage | undefined): boolean =>
    a.identity !== undefined && a.identity === b?.identity && a.format === b?.format;
  const from = old.length - now.length;
  if (now.length === 0 || from < 0) return old.length;
  return now.every((image, index) => same(image, old[from + index])) ? from : old.length;
}
