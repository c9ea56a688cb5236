/**
 * The bytes around a write: what a cluster held before, for the parts of it that the write leaves alone.
 *
 * Spec: qcow2.txt, "Cluster mapping"; a cluster that is not allocated shows the image below.
 */
import type { BlockSource } from '@strata/block';
import { ClusterKind, clusterKind, entryOffset } from './entries.ts';
import type { Image } from './image.ts';

/** An L2 entry as it was. */
export interface OldEntry {
  readonly high: number;
  readonly low: number;
}

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
    case ClusterKind.compressed: {
      const cluster = await image.reader.compressed.cluster(old.high, old.low);
      into.set(cluster.subarray(within, within + into.length));
      return;
    }
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
