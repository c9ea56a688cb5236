/**
 * The bytes around a write: what a cluster held before, for the parts of it that the write leaves alone.
 *
 * A subcluster is either data as a whole or not at all, so those that a write cuts are filled up. Where a
 * cluster gets a new place, all of it that was data before goes there too; where it had none, the subclusters
 * that the write does not touch stay what they were.
 *
 * Spec: qcow2.txt, "Cluster mapping" and "Extended L2 Entries"; what is not allocated shows the image below.
 */
import type { BlockSource } from '@strata/block';
import type { Image } from './image.ts';
import {
  EntryForm,
  endOfSubclusters,
  type L2Entry,
  lowestSubcluster,
  placeOf,
  SubclusterState,
  subclusterRun,
  subclusterState,
} from './l2-entry.ts';
import type { Piece } from './pieces.ts';
import { SCRATCH_BYTES } from './scratch.ts';
import { allOf } from './settle.ts';

/** The part of a piece that a write changes: its own bytes and what is copied up around them. */
export interface Extent {
  /** Bytes from the piece's start. */
  readonly from: number;
  readonly to: number;
}

/**
 * What is written of a piece if the guest writes its bytes `from` to `to`: more where subclusters are cut, or
 * where a cluster moves.
 */
export function writtenPart(image: Image, piece: Piece, from: number, to: number): Extent {
  if (piece.state === 'in place') return { from, to };
  const { clusterSize, subclusterSize } = image.geometry;
  const lastStart = (piece.count - 1) * clusterSize;
  const firstCut = Math.floor(from / subclusterSize);
  const lastCut = Math.ceil((to - lastStart) / subclusterSize) - 1;
  const isKept = piece.state === 'reserved';
  const holds = (entry: L2Entry, index: number): boolean =>
    isKept && subclusterState(entry, index) === SubclusterState.data;
  return {
    from: holds(piece.first, firstCut) ? from : movedFrom(piece.first, firstCut, isKept) * subclusterSize,
    to: holds(piece.last, lastCut)
      ? to
      : lastStart + movedTo(image, piece.last, lastCut + 1, isKept) * subclusterSize,
  };
}

/** The first subcluster that has to be written, if `first` is the first that the guest writes. */
function movedFrom(old: L2Entry, first: number, isKept: boolean): number {
  if (isKept || old.form === EntryForm.empty) return first;
  return old.form === EntryForm.compressed ? 0 : Math.min(first, lowestSubcluster(old.allocated));
}

/** The end of the subclusters that have to be written, if `end` is the end of those that the guest writes. */
function movedTo(image: Image, old: L2Entry, end: number, isKept: boolean): number {
  if (isKept || old.form === EntryForm.empty) return end;
  if (old.form === EntryForm.compressed) return image.geometry.subclusters;
  return Math.max(end, endOfSubclusters(old.allocated));
}

/** A run of subclusters in one state, cut to a range of guest bytes. */
interface Run {
  readonly state: SubclusterState;
  readonly offset: number;
  readonly length: number;
}

/** The runs of one cluster between the guest offsets `from` and `to`. */
function* runsOf(image: Image, old: L2Entry, from: number, to: number): Generator<Run> {
  const { clusterSize, subclusterSize, subclusters } = image.geometry;
  const start = from - (from % clusterSize);
  for (let at = from; at < to; ) {
    const index = Math.floor((at - start) / subclusterSize);
    const end = Math.min(to, start + (index + subclusterRun(old, index, subclusters)) * subclusterSize);
    yield { state: subclusterState(old, index), offset: at, length: end - at };
    at = end;
  }
}

/** True if `length` bytes of one cluster at `offset` read as zeros as far as can be told without reading them. */
export async function readsZeros(
  image: Image,
  old: L2Entry,
  offset: number,
  length: number,
  below: BlockSource,
): Promise<boolean> {
  for (const run of runsOf(image, old, offset, offset + length)) {
    if (run.state === SubclusterState.zero) continue;
    if (run.state !== SubclusterState.unallocated) return false;
    if (!image.hasBacking) continue;
    if (!(await isZeroBelow(below, run.offset, Math.min(run.offset + run.length, image.size)))) return false;
  }
  return true;
}

/** True if what lies under the image says that its bytes `from` to `to` (exclusive) read as zeros. */
export async function isZeroBelow(below: BlockSource, from: number, to: number): Promise<boolean> {
  const end = Math.min(to, below.size);
  for (let at = from; at < end; ) {
    const extent = below.tryExtentAt(at, end - at) ?? (await below.extentAt(at, end - at));
    if (extent.kind === 'data' || extent.kind === 'compressed') return false;
    at += extent.length;
  }
  return true;
}

/** Fills `into` with what one cluster held at `offset` before; past the end of the disk with zeros. */
export async function readOld(
  image: Image,
  old: L2Entry,
  into: Uint8Array,
  offset: number,
  below: BlockSource,
): Promise<void> {
  for (const run of runsOf(image, old, offset, offset + into.length)) {
    const part = into.subarray(run.offset - offset, run.offset - offset + run.length);
    await readRun(image, old, run, part, below);
  }
}

async function readRun(
  image: Image,
  old: L2Entry,
  run: Run,
  into: Uint8Array,
  below: BlockSource,
): Promise<void> {
  const within = run.offset % image.geometry.clusterSize;
  switch (run.state) {
    case SubclusterState.unallocated:
      return readBelow(image, into, run.offset, below);
    case SubclusterState.compressed:
      return image.reader.compressed.read(old.high, old.low, into, within);
    case SubclusterState.data:
      return image.space.file.read(into, placeOf(old) + within);
    case SubclusterState.zero:
      into.fill(0);
  }
}

async function readBelow(image: Image, into: Uint8Array, offset: number, below: BlockSource): Promise<void> {
  const end = image.hasBacking ? Math.min(offset + into.length, image.size, below.size) : offset;
  const length = Math.max(0, end - offset);
  const part = into.subarray(0, length);
  if (length > 0 && !below.tryRead(part, offset)) await below.read(part, offset);
  into.fill(0, length);
}

/**
 * Writes the part of `from` that belongs to a piece, and what was around it before. The parts of new clusters
 * that `from` does not cover are left alone where the host has zeros already.
 *
 * @throws {DiskError} io, no-space
 */
export async function writePiece(
  image: Image,
  piece: Piece,
  from: Uint8Array,
  offset: number,
  below: BlockSource,
): Promise<void> {
  const { clusterSize } = image.geometry;
  const { file } = image.space;
  const start = piece.cluster * clusterSize;
  const dataFrom = Math.max(offset - start, 0);
  const dataTo = Math.min(offset + from.length - start, piece.count * clusterSize);
  const data = from.subarray(start + dataFrom - offset, start + dataTo - offset);
  const part = writtenPart(image, piece, dataFrom, dataTo);
  if (part.from === dataFrom && part.to === dataTo) return file.write(data, piece.at + dataFrom);

  const head: Edge = { old: piece.first, from: part.from, to: dataFrom };
  const tail: Edge = { old: piece.last, from: dataTo, to: part.to };
  const zeroHead = await isZeroEdge(image, head, start, below);
  const zeroTail = await isZeroEdge(image, tail, start, below);
  if (piece.virgin && zeroHead && zeroTail) return file.write(data, piece.at + dataFrom);
  const bytes = part.to - part.from;
  if (bytes <= SCRATCH_BYTES) {
    return image.scratch.with(async (buffer) => {
      await fillEdge(image, head, zeroHead, buffer, start, part.from, below);
      buffer.set(data, dataFrom - part.from);
      await fillEdge(image, tail, zeroTail, buffer, start, part.from, below);
      await file.write(buffer.subarray(0, bytes), piece.at + part.from);
    });
  }
  await allOf([
    copyEdge(image, piece, head, zeroHead, below),
    file.write(data, piece.at + dataFrom),
    copyEdge(image, piece, tail, zeroTail, below),
  ]);
}

/** The part of a piece before or after the written bytes; offsets count from the piece's start. */
interface Edge extends Extent {
  readonly old: L2Entry;
}

async function isZeroEdge(image: Image, edge: Edge, start: number, below: BlockSource): Promise<boolean> {
  const length = edge.to - edge.from;
  return length === 0 || (await readsZeros(image, edge.old, start + edge.from, length, below));
}

/** @param origin where in the piece `buffer` begins */
async function fillEdge(
  image: Image,
  edge: Edge,
  isZero: boolean,
  buffer: Uint8Array,
  start: number,
  origin: number,
  below: BlockSource,
): Promise<void> {
  const into = buffer.subarray(edge.from - origin, edge.to - origin);
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
  const { file } = image.space;
  const length = edge.to - edge.from;
  if (length === 0 || (isZero && piece.virgin)) return;
  if (isZero) return file.zero(piece.at + edge.from, length);
  const start = piece.cluster * image.geometry.clusterSize;
  await image.scratch.with(async (buffer) => {
    for (let at = edge.from; at < edge.to; at += SCRATCH_BYTES) {
      const part = buffer.subarray(0, Math.min(SCRATCH_BYTES, edge.to - at));
      await readOld(image, edge.old, part, start + at, below);
      await file.write(part, piece.at + at);
    }
  });
}
