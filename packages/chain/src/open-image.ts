/**
 * Opens one image of a chain: its file, its locks, its format, its data file; and changes its use while the chain is
 * in use.
 *
 * From writing to reading an image goes in the files that it has. For the other way it is opened once more, and two
 * openings of one file by one program are strangers to each other, for the locks too: the earlier one keeps only the
 * locks that refuse nobody, until it is closed or the new opening has failed.
 */
import {
  type BackingReference,
  DiskError,
  type HostFile,
  type HostSource,
  type ImageFormat,
  isDiskError,
  type Layer,
  type LayerSource,
  type OpenSourceOptions,
} from '@strata/block';
import { DataFile } from './data-file.ts';
import type { OpenOptions } from './open.ts';
import type { FileUse, Place } from './places.ts';
import { formatNamed, probe } from './probe.ts';
import { printable } from './reference.ts';

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
  /**
   * Opens the same image for writing, beside this one: each is closed by itself. This one holds no lock any more that
   * refuses anybody. If it fails, this one is as it was.
   *
   * @throws {DiskError} as opening does; denied if another file has the name by now, or if its format was guessed
   */
  toWrite(): Promise<WritableImage>;
}

/** An image of a chain that was opened for writing. */
export interface WritableImage extends ChainImage {
  readonly host: HostFile;
  readonly layer: Layer;
  /**
   * Closes the layer, which stores what it holds, and opens the image for reading, with the locks for that. The result
   * has the files, and this image is used up. What went wrong while the layer was closed is `failure`: the guest's data
   * is there as of the last flush all the same.
   *
   * @throws {DiskError} if it cannot be opened for reading either: it is closed then
   */
  toRead(): Promise<{ readonly image: ChainImage; readonly failure: unknown }>;
}

/** An image that is to be opened. */
export interface NextImage {
  readonly path: string;
  /** What the image above records; undefined if the caller names it. */
  readonly reference: BackingReference | undefined;
  readonly format: string | ImageFormat | undefined;
  readonly dataFile: string | undefined;
}

/** How an image is used. */
type Access = 'read' | 'write';

/**
 * Opens `next`, which `above` is over. `seen` are the identities of the files of the chain, and gets those of its own.
 *
 * @throws {DiskError} everything that opening can meet; `context.path` says at which image
 */
export async function openImage(
  next: NextImage,
  above: ChainImage | undefined,
  access: Access,
  options: OpenOptions,
  seen: Set<string>,
): Promise<ChainImage> {
  const { path, reference, format: named, dataFile } = next;
  const { places, gate, share = false } = options;
  if (typeof named === 'string') formatNamed(named, options.formats);
  const place = access === 'write' ? await places.openFile(path) : await places.openSource(path);
  const data = new DataFile({ path, named: dataFile }, access, options, seen);
  try {
    if (reference !== undefined && above !== undefined && place.realPath !== undefined) {
      await gate.admit(place.realPath, reference, above.path);
    }
    const { host, identity } = place;
    if (identity !== undefined && seen.has(identity)) {
      throw new DiskError('corrupt', `Backing file '${printable(path)}' creates an infinite loop.`, { path });
    }
    if (identity !== undefined) seen.add(identity);
    const format = await formatOf(place, named, reference, access, options);
    await place.lock({ access, exclusive: format.exclusive, share });
    const layer = await (access === 'write'
      ? format.open(host as HostFile, { openDataFile: (name) => data.open(name) as Promise<HostFile> })
      : format.openSource(host, {
          ...(above === undefined && snapshotOf(options)),
          openDataFile: (name) => data.open(name),
        }));
    if (dataFile !== undefined && data.host === undefined) {
      await layer[Symbol.asyncDispose]();
      const message = "'data-file' can only be set for images with an external data file";
      throw new DiskError('invalid', message);
    }
    const files = { path, reference, format, host, identity, dataHost: data.host };
    const relock = async (as: Pick<FileUse, 'access' | 'share'>): Promise<void> => {
      await place.lock({ ...as, exclusive: format.exclusive });
      await data.relock(as);
    };
    const toWrite = async (): Promise<WritableImage> => {
      await relock({ access: 'read', share: true });
      try {
        // `seen` is of the whole chain, which the image is in already.
        const image = (await openImage(next, above, 'write', options, new Set())) as WritableImage;
        if (image.identity === identity) return image;
        await closeImage(image).catch(() => undefined);
        throw new DiskError('denied', 'another file has the name by now', { path });
      } catch (error) {
        await relock({ access: 'read', share }).catch(() => undefined);
        throw error;
      }
    };
    const toRead: WritableImage['toRead'] = async () => {
      const failure = await failureOf(layer[Symbol.asyncDispose]());
      try {
        await relock({ access: 'read', share });
        const openDataFile = async (): Promise<HostSource> => data.host as HostSource;
        const source = await format.openSource(host, data.host && { openDataFile });
        return { image: { ...files, layer: source, toWrite }, failure };
      } catch (error) {
        await Promise.allSettled([host[Symbol.asyncDispose](), data.host?.[Symbol.asyncDispose]()]);
        throw located(error, path);
      }
    };
    return { ...files, layer, toWrite, ...(access === 'write' && { toRead }) };
  } catch (error) {
    await Promise.allSettled([data.host?.[Symbol.asyncDispose]()]);
    await Promise.allSettled([place.host[Symbol.asyncDispose]()]);
    throw located(error, path);
  }
}

/** Closes the layer and then its files; all of them, and the first failure is reported. */
export async function closeImage({ layer, host, dataHost }: ChainImage): Promise<void> {
  const failures: unknown[] = [];
  for (const part of [layer, host, dataHost]) {
    try {
      await part?.[Symbol.asyncDispose]();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** What a promise rejects with; undefined if it does not. */
async function failureOf(promise: PromiseLike<void>): Promise<unknown> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return error;
  }
}

function snapshotOf({ snapshot }: OpenOptions): OpenSourceOptions {
  return snapshot === undefined ? {} : { snapshot };
}

async function formatOf(
  place: Place<HostSource>,
  named: string | ImageFormat | undefined,
  reference: BackingReference | undefined,
  access: Access,
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

function located(error: unknown, path: string): unknown {
  if (!isDiskError(error) || error.context.path !== undefined) return error;
  return new DiskError(error.code, error.message, { ...error.context, path, cause: error.cause });
}
