/**
 * Records another backing file in an image.
 *
 * What was written before is durable first: a cluster that was copied up because the new backing file has other
 * bytes there must be in the image before the name changes. The name and its format change in one step.
 *
 * Spec: qcow2.txt, "Header", backing_file_offset, and "Header extensions", backing file format name string.
 */
import { type BackingReference, DiskError } from '@strata/block';
import { nameBytes } from './create.ts';
import { Autoclear } from './format.ts';
import { readHeader } from './header.ts';
import { rewriteHeader } from './header-rewrite.ts';
import type { Image } from './image.ts';

/** Records `reference`, or that there is no backing file. As `Layer.changeBacking`. */
export async function changeBacking(image: Image, reference: BackingReference | undefined): Promise<void> {
  const backingName = reference === undefined ? undefined : nameBytes(reference);
  const hold = await image.ranges.acquire(0, Number.POSITIVE_INFINITY);
  try {
    image.structures.checkHeader();
    await image.barrier.run();
    await image.barrier.exclusively(async () => {
      // Tables may have moved since the image was opened, and the file knows where they are.
      const header = await readHeader(image.file);
      if (reference !== undefined && (header.autoclear & Autoclear.rawData) !== 0n) {
        throw new DiskError('invalid', 'An image with data_file_raw set cannot have a backing file');
      }
      await rewriteHeader(image.file, {
        ...header,
        // Features that we do not know may not hold for the changed image.
        autoclear: header.autoclear & (Autoclear.bitmaps | Autoclear.rawData),
        backingName,
        extensions: { ...header.extensions, backingFormat: reference?.format },
      });
    });
  } finally {
    hold.release();
  }
}
