/**
 * The bytes around a write: what a cluster held before, for the parts of it that the write leaves alone.
 *
 * Spec: qcow2.txt, "Cluster mapping"; a cluster that is not allocated shows the image below.
 */
import type { BlockSource } from '@strata/block';
import { ClusterKind, clusterKind, entryOffset } from './entries.ts';
import type { Image } from './image.ts';
import type { OldEntry, Piece } from './pieces.ts';
import { SCRATCH_BYTES } from './scratch.ts';
import { allOf } from './settle.ts';

/** True if `length` bytes at `offset` read as zeros as far as can be told without reading them. */
export async function readsZeros(
  image: Image,
  old: OldEntry,
  offset: number,
  length: number,
  below: BlockSource,
): Promise<boolean> {
  switch (clusterKind(image.geometry, old.high, old.low)) {
    case ClusterKind.zero:
    case ClusterKind.zeroAllocated:
      return true;
    case ClusterKind.unallocated:
      return !image.hasBacking || (await isZeroBelow(below, offset, Math.min(offset + length, image.size)));
    default:
      return false;
  }
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
  old: OldEntry,
  into: Uint8Array,
  offset: number,
  below: BlockSource,
): Promise<void> {
  const within = offset % image.geometry.clusterSize;
  switch (clusterKind(image.geometry, old.high, old.low)) {
    case ClusterKind.unallocated:
      return readBelow(image, into, offset, below);
    case ClusterKind.compressed:
      return image.reader.compressed.read(old.high, old.low, into, within);
    case ClusterKind.data:
      return image.file.read(into, entryOffset(old.high, old.low) + within);
    default:
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
