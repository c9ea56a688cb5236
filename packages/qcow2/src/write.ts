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
import { type OldEntry, readOld, readsZeros } from './copy-up.ts';
import {
  ClusterKind,
  clusterKind,
  encodeHigh,
  encodeLow,
  entryHigh,
  entryLow,
  entryOffset,
  isExclusive,
  setEntry,
} from './entries.ts';
import { clusterIndexOf, type HostOffset, hostOffset } from './geometry.ts';
import type { Image } from './image.ts';
import { corruptEntry } from './mapping.ts';
import { SCRATCH_BYTES } from './scratch.ts';
import { allOf } from './settle.ts';
import type { ClusterTable } from './tables.ts';

/** Guest clusters in a row, of one L2 table, whose bytes go to host clusters in a row. */
interface Piece {
  readonly cluster: number;
  readonly count: number;
  readonly at: HostOffset;
  /** `in place`: linked already. `reserved`: linked as zeros, to be linked as data. `new`: allocated just now. */
  readonly state: 'in place' | 'reserved' | 'new';
  /** The host clusters were never written: they are zeros. */
  readonly virgin: boolean;
  /** What the first and the last cluster held before. */
  readonly first: OldEntry;
  readonly last: OldEntry;
}

/** Writes all of `from` at `offset`, inside the disk, which is open. As `Layer.write`. */
export function write(image: Image, from: Uint8Array, offset: number, below: BlockSource): Promise<void> {
  if (image.isPrepared) {
    const at = image.links.inPlaceAt(offset, from.length);
    const hold = at < 0 ? undefined : image.ranges.tryAcquire(offset, from.length);
    if (hold !== undefined) {
      image.lifetime.enter();
      const writing = image.file.write(from, at);
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
    return image.file.write(from, at);
  });
}

/** Waits until nobody changes the range, and writes if its clusters are in place then. */
async function writeInPlaceLater(image: Image, from: Uint8Array, offset: number): Promise<boolean> {
  const hold = await image.ranges.acquire(offset, from.length);
  try {
    const at = image.links.inPlaceAt(offset, from.length);
    if (at < 0 || !image.isPrepared) return false;
    await image.file.write(from, at);
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
    await plan(image, offset, offset + from.length, pieces);
    await allOf(pieces.map((piece) => writePiece(image, piece, from, offset, below)));
    for (; linked < pieces.length; linked++) await link(image, pieces[linked] as Piece);
  } catch (error) {
    // A cluster that cannot be given back leaks, which harms nobody; the first failure is what counts.
    const abandoned = pieces.slice(linked).filter(({ state }) => state === 'new');
    await Promise.allSettled(abandoned.map((piece) => image.allocator.release(piece)));
    throw error;
  }
}

/** Finds or allocates a place for every cluster of a range. */
async function plan(image: Image, offset: number, end: number, pieces: Piece[]): Promise<void> {
  const { clusterSize, l2Entries } = image.geometry;
  const endCluster = Math.ceil(end / clusterSize);
  for (let cluster = Math.floor(offset / clusterSize); cluster < endCluster; ) {
    const l1Index = Math.floor(cluster / l2Entries);
    const table = image.links.peek(l1Index);
    if (table === undefined) {
      await image.links.make(l1Index);
      continue;
    }
    const index = cluster - l1Index * l2Entries;
    const stop = Math.min(l2Entries, index + endCluster - cluster);
    const piece = presentPiece(image, table, cluster, index, stop);
    if (piece === 'load refcount') {
      await image.refcounts.get(clusterIndexOf(image.geometry, placeOf(table, index)));
    } else {
      const found = piece ?? (await newPiece(image, table, cluster, index, stop));
      pieces.push(found);
      cluster += found.count;
    }
  }
}

const oldEntry = (table: ClusterTable, index: number): OldEntry => ({
  high: entryHigh(table.view, index),
  low: entryLow(table.view, index),
});

const placeOf = (table: ClusterTable, index: number): HostOffset =>
  entryOffset(entryHigh(table.view, index), entryLow(table.view, index));

/** Clusters that have a place of their own already; undefined if the first one needs a new place. */
function presentPiece(
  image: Image,
  table: ClusterTable,
  cluster: number,
  index: number,
  stop: number,
): Piece | 'load refcount' | undefined {
  const { geometry, links, structures } = image;
  const first = oldEntry(table, index);
  const kind = clusterKind(geometry, first.high, first.low);
  if (kind === ClusterKind.corrupt) throw corruptEntry(geometry, table, index);
  if (kind !== ClusterKind.data && kind !== ClusterKind.zeroAllocated) return undefined;
  const ours = links.isOurs(first.high, first.low);
  if (ours === undefined) return 'load refcount';
  if (!ours) return undefined;
  const at = entryOffset(first.high, first.low);
  if (!isExclusive(first.high)) {
    setEntry(table.view, index, encodeHigh(at, true), first.low);
    image.l2.changed(table, index * 8, index * 8 + 8);
  }
  const count = links.exclusiveRun(table, index, stop, kind);
  structures.check(at, count * geometry.clusterSize);
  const state = kind === ClusterKind.data ? 'in place' : 'reserved';
  return { cluster, count, at, state, virgin: false, first, last: oldEntry(table, index + count - 1) };
}

/** Allocates a place for as many clusters in a row as need one and find one. */
async function newPiece(
  image: Image,
  table: ClusterTable,
  cluster: number,
  index: number,
  stop: number,
): Promise<Piece> {
  let next = index + 1;
  while (next < stop && needsPlace(image, table, next)) next++;
  const old = Array.from({ length: next - index }, (_, i) => oldEntry(table, index + i));
  const wanted = next - index;
  const { at, count, virgin } =
    image.allocator.tryAllocate(wanted) ?? (await image.allocator.allocate(wanted));
  const [first, last] = [old[0] as OldEntry, old[count - 1] as OldEntry];
  return { cluster, count, at, state: 'new', virgin, first, last };
}

function needsPlace(image: Image, table: ClusterTable, index: number): boolean {
  const { high, low } = oldEntry(table, index);
  switch (clusterKind(image.geometry, high, low)) {
    case ClusterKind.unallocated:
    case ClusterKind.zero:
    case ClusterKind.compressed:
      return true;
    case ClusterKind.corrupt:
      return false;
    default:
      return image.links.isOurs(high, low) === false;
  }
}

async function writePiece(
  image: Image,
  piece: Piece,
  from: Uint8Array,
  offset: number,
  below: BlockSource,
): Promise<void> {
  const { clusterSize } = image.geometry;
  const start = piece.cluster * clusterSize;
  const bytes = piece.count * clusterSize;
  const dataFrom = Math.max(offset - start, 0);
  const dataTo = Math.min(offset + from.length - start, bytes);
  const data = from.subarray(start + dataFrom - offset, start + dataTo - offset);
  if (piece.state === 'in place' || (dataFrom === 0 && dataTo === bytes))
    return image.file.write(data, piece.at + dataFrom);

  const head: Edge = { old: piece.first, from: 0, to: dataFrom };
  const tail: Edge = { old: piece.last, from: dataTo, to: bytes };
  const zeroHead = await isZeroEdge(image, head, start, below);
  const zeroTail = await isZeroEdge(image, tail, start, below);
  if (piece.virgin && zeroHead && zeroTail) return image.file.write(data, piece.at + dataFrom);
  if (bytes <= SCRATCH_BYTES) {
    return image.scratch.with(async (buffer) => {
      await fillEdge(image, head, zeroHead, buffer, start, below);
      buffer.set(data, dataFrom);
      await fillEdge(image, tail, zeroTail, buffer, start, below);
      await image.file.write(buffer.subarray(0, bytes), piece.at);
    });
  }
  await allOf([
    copyEdge(image, piece, head, zeroHead, below),
    image.file.write(data, piece.at + dataFrom),
    copyEdge(image, piece, tail, zeroTail, below),
  ]);
}

/** The part of a piece before or after the written bytes; offsets count from the piece's start. */
interface Edge {
  readonly old: OldEntry;
  readonly from: number;
  readonly to: number;
}

async function isZeroEdge(image: Image, edge: Edge, start: number, below: BlockSource): Promise<boolean> {
  const length = edge.to - edge.from;
  return length === 0 || (await readsZeros(image, edge.old, start + edge.from, length, below));
}

async function fillEdge(
  image: Image,
  edge: Edge,
  isZero: boolean,
  buffer: Uint8Array,
  start: number,
  below: BlockSource,
): Promise<void> {
  const into = buffer.subarray(edge.from, edge.to);
  if (isZero) into.fill(0);
  else await readOld(image, edge.old, into, start + edge.from, below);
}

/** For pieces too large for a buffer: the edge is written by itself, next to the data. */
async function copyEdge(
  image: Image,
  piece: Piece,
  edge: Edge,
  isZero: boolean,
  below: BlockSource,
): Promise<void> {
  const length = edge.to - edge.from;
  if (length === 0 || (isZero && piece.virgin)) return;
  if (isZero) return image.file.zero(piece.at + edge.from, length);
  const start = piece.cluster * image.geometry.clusterSize;
  await image.scratch.with(async (buffer) => {
    for (let at = edge.from; at < edge.to; at += SCRATCH_BYTES) {
      const part = buffer.subarray(0, Math.min(SCRATCH_BYTES, edge.to - at));
      await readOld(image, edge.old, part, start + at, below);
      await image.file.write(part, piece.at + at);
    }
  });
}

/** Makes the L2 entries of a written piece lead to it. */
async function link(image: Image, piece: Piece): Promise<void> {
  if (piece.state === 'in place') return;
  const { clusterSize, l2Entries } = image.geometry;
  const l1Index = Math.floor(piece.cluster / l2Entries);
  let table = image.links.peek(l1Index);
  while (table === undefined) {
    await image.links.make(l1Index);
    table = image.links.peek(l1Index);
  }
  const index = piece.cluster - l1Index * l2Entries;
  for (let i = 0; i < piece.count; i++) {
    const old = oldEntry(table, index + i);
    const at = hostOffset(piece.at + i * clusterSize);
    setEntry(table.view, index + i, encodeHigh(at, true), encodeLow(at));
    if (piece.state === 'new') image.links.drop(old.high, old.low);
  }
  image.l2.changed(table, index * 8, (index + piece.count) * 8);
}
