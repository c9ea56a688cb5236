/**
 * Guest writes whose bytes the host copies from another file: whole clusters inside the host, what is cut of a
 * cluster at either end as an ordinary write.
 *
 * They take their places and are linked as other writes are, so the order on disk is the same.
 */
import type { BlockSource, HostRange } from '@strata/block';
import type { Image } from './image.ts';
import { type Piece, planWrite } from './pieces.ts';
import { SCRATCH_BYTES } from './scratch.ts';
import { allOf } from './settle.ts';
import { linkPiece, write } from './write.ts';

/** As `Layer.copyFrom`. */
export async function copyFrom(
  image: Image,
  from: HostRange,
  offset: number,
  below: BlockSource,
): Promise<boolean> {
  if (image.space.file.copyFrom === undefined) return false;
  const { clusterSize } = image.geometry;
  const end = offset + from.length;
  const start = Math.min(end, Math.ceil(offset / clusterSize) * clusterSize);
  const stop = Math.max(start, Math.floor(end / clusterSize) * clusterSize);
  const part = (to: number, next: number): HostRange => ({
    host: from.host,
    at: from.at + to - offset,
    length: next - to,
  });
  if (start < stop && !(await copyClusters(image, part(start, stop), start))) return false;
  await writePart(image, part(offset, start), offset, below);
  await writePart(image, part(stop, end), stop, below);
  return true;
}

/** Whole clusters. */
async function copyClusters(image: Image, from: HostRange, offset: number): Promise<boolean> {
  let done = false;
  await image.run(() =>
    image.holdClusters(offset, from.length, async () => {
      const pieces: Piece[] = [];
      let linked = 0;
      try {
        await planWrite(image, offset, offset + from.length, pieces);
        if (await copyPieces(image, pieces, from, offset)) {
          for (; linked < pieces.length; linked++)
            await linkPiece(image, pieces[linked] as Piece, from.length, offset);
          done = true;
        }
      } finally {
        // What is not linked is nobody's; if it cannot be given back it leaks, which harms nobody.
        const abandoned = pieces.slice(linked).filter(({ state }) => state === 'new');
        await Promise.allSettled(abandoned.map((piece) => image.space.release(piece)));
      }
    }),
  );
  return done;
}

/** True if all of them could be copied. */
async function copyPieces(
  image: Image,
  pieces: readonly Piece[],
  from: HostRange,
  offset: number,
): Promise<boolean> {
  const { clusterSize } = image.geometry;
  let isWhole = true;
  await allOf(
    pieces.map(async ({ cluster, count, at }) => {
      const place = from.at + cluster * clusterSize - offset;
      const range = { host: from.host, at: place, length: count * clusterSize };
      if (!(await image.space.file.copyFrom?.(range, at))) isWhole = false;
    }),
  );
  return isWhole;
}

/** What is not whole clusters. */
async function writePart(
  image: Image,
  { host, at, length }: HostRange,
  offset: number,
  below: BlockSource,
): Promise<void> {
  if (length === 0) return;
  await image.scratch.with(async (buffer) => {
    for (let done = 0; done < length; done += SCRATCH_BYTES) {
      const bytes = buffer.subarray(0, Math.min(SCRATCH_BYTES, length - done));
      if (!host.tryRead(bytes, at + done)) await host.read(bytes, at + done);
      await write(image, bytes, offset + done, below);
    }
  });
}
