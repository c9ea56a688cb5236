/**
 * Guest writes.
 *
 * A write over clusters that hold data of ours alone goes straight to the file: one request, one promise.
 * Everything else holds its clusters, finds out piece by piece where its bytes go, writes all pieces at
 * once, and only when they are written links them into the L2 tables. A piece that cannot be written is given
 * back and never linked. The parts of a new cluster that the request does not cover are copied up, or left
 * alone where they read as zeros already.
 */
import type { BlockSource } from '@strata/block';
import { writePiece, writtenPart } from './copy-up.ts';
import { encodeHigh, encodeLow } from './entries.ts';
import type { Image } from './image.ts';
import { readL2Entry, storeL2Entry, subclusterMask } from './l2-entry.ts';
import { type Piece, planWrite } from './pieces.ts';
import { allOf } from './settle.ts';

/** Writes all of `from` at `offset`, inside the disk, which is open. As `Layer.write`. */
export function write(image: Image, from: Uint8Array, offset: number, below: BlockSource): Promise<void> {
  if (image.isPrepared) {
    const at = image.links.inPlaceAt(offset, from.length);
    const hold = at < 0 ? undefined : image.ranges.tryAcquire(offset, from.length);
    if (hold !== undefined) {
      image.lifetime.enter();
      const writing = image.space.file.write(from, at);
      const release = (): void => {
        hold.release();
        image.lifetime.leave();
      };
      writing.then(release, release);
      return writing;
    }
  }
  return image.run(() => writeHolding(image, from, offset, below));
}

async function writeHolding(
  image: Image,
  from: Uint8Array,
  offset: number,
  below: BlockSource,
): Promise<void> {
  const clusters = image.clustersAround(offset, from.length);
  let hold = image.ranges.tryAcquire(clusters.offset, clusters.length);
  if (hold === undefined) {
    // Whoever is at work here may be putting the clusters in place: then all who wait need their bytes only.
    if (await writeInPlaceLater(image, from, offset)) return;
    hold = await image.ranges.acquire(clusters.offset, clusters.length);
  }
  const held = hold;
  await image.holding(held, async () => {
    const at = image.links.inPlaceAt(offset, from.length);
    if (at < 0) return writeClusters(image, from, offset, below);
    held.narrow(offset, from.length);
    return image.space.file.write(from, at);
  });
}

/** Waits until nobody changes the range, and writes if its clusters are in place then. */
async function writeInPlaceLater(image: Image, from: Uint8Array, offset: number): Promise<boolean> {
  const hold = await image.ranges.acquire(offset, from.length);
  try {
    const at = image.links.inPlaceAt(offset, from.length);
    if (at < 0 || !image.isPrepared) return false;
    await image.space.file.write(from, at);
    return true;
  } finally {
    hold.release();
  }
}

/**
 * Writes into clusters that the caller holds, whatever state they are in.
 *
 * @throws {DiskError} corrupt, no-space, io; then what was allocated has been given back
 */
export async function writeClusters(
  image: Image,
  from: Uint8Array,
  offset: number,
  below: BlockSource,
): Promise<void> {
  const pieces: Piece[] = [];
  let linked = 0;
  try {
    await planWrite(image, offset, offset + from.length, pieces);
    await allOf(pieces.map((piece) => writePiece(image, piece, from, offset, below)));
    for (; linked < pieces.length; linked++)
      await linkPiece(image, pieces[linked] as Piece, from.length, offset);
  } catch (error) {
    // A cluster that cannot be given back leaks, which harms nobody; the first failure is what counts.
    const abandoned = pieces.slice(linked).filter(({ state }) => state === 'new');
    await Promise.allSettled(abandoned.map((piece) => image.space.release(piece)));
    throw error;
  }
}

/** Makes the L2 entries lead to a piece of which the guest's `length` bytes at `offset` have been written. */
export async function linkPiece(image: Image, piece: Piece, length: number, offset: number): Promise<void> {
  if (piece.state === 'in place') return;
  const { geometry } = image;
  const { clusterSize, subclusterSize, subclusters, l2Entries, l2EntrySize } = geometry;
  const l1Index = Math.floor(piece.cluster / l2Entries);
  let table = image.links.peek(l1Index);
  while (table === undefined) {
    await image.links.make(l1Index);
    table = image.links.peek(l1Index);
  }
  const start = piece.cluster * clusterSize;
  const dataTo = Math.min(offset + length - start, piece.count * clusterSize);
  const part = writtenPart(image, piece, Math.max(offset - start, 0), dataTo);
  const index = piece.cluster - l1Index * l2Entries;
  for (let i = 0; i < piece.count; i++) {
    const first = i === 0 ? Math.floor(part.from / subclusterSize) : 0;
    const end = Math.min(Math.ceil((part.to - i * clusterSize) / subclusterSize), subclusters);
    const written = subclusterMask(first, end);
    const old = readL2Entry(geometry, table.view, index + i);
    const at = piece.at + i * clusterSize;
    storeL2Entry(geometry, table.view, index + i, {
      high: encodeHigh(at, true),
      low: encodeLow(at),
      zeros: (old.zeros & ~written) >>> 0,
      allocated: (old.allocated | written) >>> 0,
    });
    if (piece.state === 'new') image.links.drop(old.high, old.low);
  }
  image.l2.changed(table, index * l2EntrySize, (index + piece.count) * l2EntrySize);
}
