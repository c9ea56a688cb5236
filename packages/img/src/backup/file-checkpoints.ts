/** Images in files as what checkpoints are made of: nobody else has them open meanwhile. */
import type { CheckpointImage } from '@strata/backup';
import { bitmapStoreOf, bitmapsOf } from '@strata/bitmap';
import { DiskError, type ImageFormat, isDiskError } from '@strata/block';
import type { BitmapList } from '../formats/support.ts';
import { cannotOpen, openImageFile, type Wish } from '../open.ts';
import { changeLocks } from '../places/file.ts';
import { CommandError } from '../report.ts';

const finest = 4096;
const coarsest = 65_536;

/** Images that are locked against everybody else. */
export interface OpenedImages extends AsyncDisposable {
  readonly images: readonly CheckpointImage[];
}

/**
 * Opens all of them, or none.
 *
 * @param granularity of new bitmaps; undefined: their cluster size, 4 KiB to 64 KiB
 * @throws {CommandError}
 */
export async function openCheckpointImages(
  names: readonly string[],
  wish: Omit<Wish, 'allow'>,
  granularity: number | undefined,
): Promise<OpenedImages> {
  const opened: AsyncDisposable[] = [];
  const images: CheckpointImage[] = [];
  const close = async (): Promise<void> => {
    for (const result of await Promise.allSettled(opened.map((each) => each[Symbol.asyncDispose]())))
      if (result.status === 'rejected') throw result.reason;
  };
  try {
    for (const name of names) {
      const { host, support, ...rest } = await openImageFile(name, { ...wish, locks: changeLocks });
      opened.push(rest);
      if (wish.format === undefined && support.format.name === 'raw') {
        const message = 'the format was not specified and is not guessed as raw for writing';
        throw cannotOpen(name, new DiskError('denied', message, { op: 'probe' }));
      }
      const bitmaps = support.bitmapList ?? (support.keepsBitmaps && oneByOne(support.format));
      if (!bitmaps) {
        const message = `images of format '${support.format.name}' keep no bitmaps`;
        throw new CommandError(`No checkpoint of '${name}': ${message}`);
      }
      const { clusterSize = coarsest } = await support.describe(host).catch(saying(name));
      images.push({
        name,
        granularity: granularity ?? Math.min(Math.max(clusterSize, finest), coarsest),
        list: () => bitmaps.read(host).catch(saying(name)),
        change: (changes) => bitmaps.change(host, changes).catch(saying(name)),
      });
    }
    return { images, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}

/**
 * The bitmaps of a format that makes one change after another. What a crash leaves between two of them is an older
 * checkpoint that records on, which the next checkpoint freezes.
 */
function oneByOne(format: ImageFormat): BitmapList {
  return {
    read: async (file) => {
      await using layer = await format.openSource(file);
      return (await bitmapsOf(layer)?.list()) ?? [];
    },
    change: async (file, changes) => {
      await using layer = await format.open(file);
      const store = bitmapStoreOf(layer);
      if (store === undefined) throw new DiskError('not-supported', 'the image keeps no bitmaps');
      for (const each of changes) {
        if (each.kind === 'add') await store.add(each.name, each);
        else if (each.kind === 'remove') await store.remove(each.name);
        else if (each.kind === 'rename') await store.rename(each.name, each.to);
        else await store.setEnabled(each.name, each.enabled);
      }
    },
  };
}

function saying(name: string): (error: unknown) => never {
  return (error) => {
    if (!isDiskError(error)) throw error;
    throw new DiskError(error.code, `'${name}': ${error.message}`, { ...error.context, cause: error });
  };
}
