/**
 * Commit: what the upper images of a chain hold moves down into one of their backing files.
 *
 * The backing file is complete and durable before the top is emptied, so that whatever interrupts a commit
 * leaves the guest's content readable through the chain. Ranges that no upper image holds are left alone.
 */
import { copy, DiskError, isDiskError, type TransferOptions } from '@strata/block';
import { ChainDevice, ChainSource } from './chain.ts';
import {
  type ChainImage,
  closeImages,
  layersOf,
  type OpenOptions,
  openImages,
  type WritableImage,
} from './open.ts';

/** How to commit. */
export interface CommitOptions extends TransferOptions {
  /**
   * The backing file to commit into, by the name that the chain records or by its path; without it the top's
   * own. With it the top is kept as it is.
   */
  readonly base?: string;
  /** Leave the top as it is instead of emptying it. */
  readonly keep?: boolean;
}

/**
 * Commits the image `name`. A backing file that is shorter than the top grows.
 *
 * @throws {DiskError} invalid if it has no backing file; not-found if `base` is not in the chain; denied if
 *   the format of the backing file is not recorded; and everything that opening, reading and writing can meet
 */
export async function commit(name: string, open: OpenOptions, options: CommitOptions = {}): Promise<void> {
  const keep = options.keep === true || options.base !== undefined;
  let baseIndex: number | undefined;
  const images = await openImages(name, open, (index, path, reference) => {
    if (index === 0) return !keep;
    const wanted = options.base === undefined || options.base === reference?.name || options.base === path;
    if (baseIndex === undefined && wanted) baseIndex = index;
    return baseIndex === index;
  });
  try {
    await commitInto(images, baseIndex, name, keep, options);
  } catch (error) {
    await closeImages(images).catch(() => undefined);
    throw afterOpening(error);
  }
  await closeImages(images).catch((error: unknown) => {
    throw afterOpening(error);
  });
}

async function commitInto(
  images: readonly ChainImage[],
  baseIndex: number | undefined,
  name: string,
  keep: boolean,
  options: CommitOptions,
): Promise<void> {
  const top = images[0] as WritableImage;
  if (baseIndex === undefined) {
    if (options.base === undefined)
      throw new DiskError('invalid', 'Image does not have a backing file', { path: name, op: 'commit' });
    const message = `Did not find '${options.base}' in the backing chain of '${name}'`;
    throw new DiskError('not-found', message, { path: name, op: 'commit' });
  }
  const base = images[baseIndex] as WritableImage;
  const below = layersOf(images.slice(baseIndex + 1));
  const { size } = top.layer;
  if (base.layer.size < size) await base.layer.resize(size, new ChainSource(below, size));
  const upper = new ChainSource(layersOf(images.slice(0, baseIndex)), size);
  const target = new ChainDevice(base.layer, below);
  await copy(upper, target, { ...options, select: (extent) => extent.depth !== 0 });
  await target.flush();
  if (!keep) await top.layer.empty();
}

/** Marks a failure as one of the work, and not of opening: `op` is `commit`, `cause` what failed. */
function afterOpening(error: unknown): unknown {
  if (!isDiskError(error) || error.context.op === 'commit') return error;
  return new DiskError(error.code, error.message, { ...error.context, op: 'commit', cause: error });
}
