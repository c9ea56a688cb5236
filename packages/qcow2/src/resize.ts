/**
 * Changing the size of the disk; making it smaller is in shrink.ts.
 *
 * What is added must read as zeros: the rest of a last cluster that was cut by the old end, entries that
 * were left beyond it, and what an image below would show there. All of that, and an L1 table that had to
 * move to a larger place, is durable before the size in the header changes.
 *
 * Spec: qcow2.txt, "Header", size and l1_size.
 */
import {
  type BlockSource,
  DiskError,
  type Preallocation,
  type ResizeOptions,
  spendSpace,
} from '@strata/block';
import { isZeroBelow } from './copy-up.ts';
import { dropClusters } from './discard.ts';
import { MAX_L1_BYTES } from './format.ts';
import { clustersFor, l1EntriesFor } from './geometry.ts';
import { sizePatch } from './header-encode.ts';
import type { Image } from './image.ts';
import { SubclusterState, subclusterState } from './l2-entry.ts';
import { preallocate } from './preallocate.ts';
import { shrink } from './shrink.ts';
import { entryOf, writeZeros } from './zero.ts';

/**
 * Changes the size of the disk. As `Layer.resize`.
 *
 * @throws {DiskError} invalid, limit, not-supported, no-space
 */
export async function resize(
  image: Image,
  size: number,
  below: BlockSource,
  { preallocation = 'off' }: ResizeOptions = {},
): Promise<void> {
  checkSize(image, size);
  if (size < image.size && preallocation !== 'off')
    throw new DiskError('invalid', "Preallocation can't be used for shrinking an image");
  await image.holdAll(async () => {
    const old = image.size;
    if (size === old) return;
    await image.bitmaps.prepareResize();
    if (size < old) await shrink(image, size);
    else await grow(image, size, below, preallocation);
    await image.bitmaps.resized();
  });
}

async function grow(
  image: Image,
  size: number,
  below: BlockSource,
  preallocation: Preallocation,
): Promise<void> {
  const old = image.size;
  await growL1(image, l1EntriesFor(image.geometry, size));
  await zeroTail(image, old, size, below);
  await dropLeft(image, old, size);
  if (image.geometry.externalData) await growData(image, old, size, preallocation);
  // A data file that is the disk by itself must be read by nobody else: every cluster is allocated.
  const mode = preallocation === 'off' && image.isRawData ? 'metadata' : preallocation;
  if (mode === 'off') await hideBelow(image, old, size, below);
  else await preallocateAdded(image, old, size, below, mode);
  await image.barrier.run();
  const { offset, bytes } = sizePatch(size);
  await image.file.write(bytes, offset);
  await image.file.flush();
  image.size = size;
}

/** Judges a new size, of an image that is of this version by then. @throws {DiskError} invalid, limit, not-supported */
export function checkSize(image: Image, size: number, version = image.geometry.version): void {
  if (size % 512 !== 0) throw new DiskError('invalid', 'The new size must be a multiple of 512');
  if (version === 2 && image.header.snapshotCount > 0)
    throw new DiskError('not-supported', "Can't resize a v2 image which has snapshots");
  if (l1EntriesFor(image.geometry, size) * 8 > MAX_L1_BYTES)
    throw new DiskError('limit', 'Failed to grow the L1 table: File too large');
}

async function growL1(image: Image, entries: number): Promise<void> {
  const { l2, geometry, allocator, quarantine } = image;
  const l1 = l2.parent;
  if (entries <= l1.entries) return;
  await l1.loadAll();
  const run = await allocator.allocateInOneRun(clustersFor(geometry, entries * 8));
  const oldClusters = clustersFor(geometry, l1.entries * 8);
  if (oldClusters > 0) quarantine.add(l1.at / geometry.clusterSize, oldClusters);
  l1.move(run.at, entries);
}

/** What was left behind the old end is nobody's. */
async function dropLeft(image: Image, old: number, size: number): Promise<void> {
  const { geometry } = image;
  await dropClusters(image, clustersFor(geometry, old), clustersFor(geometry, size), {
    unallocatedToo: false,
  });
}

/** Hides what the image below holds in the clusters that are added. */
async function hideBelow(image: Image, old: number, size: number, below: BlockSource): Promise<void> {
  if (!image.hasBacking) return;
  for (let at = clustersFor(image.geometry, old) * image.geometry.clusterSize; at < size; ) {
    const { kind, length } = below.tryExtentAt(at, size - at) ?? (await below.extentAt(at, size - at));
    if (kind === 'data' || kind === 'compressed') await hide(image, at, at + length, below);
    at += length;
  }
}

/** Gives the clusters that are added a place. The one that the old end cuts keeps the state that it has. */
async function preallocateAdded(
  image: Image,
  old: number,
  size: number,
  below: BlockSource,
  how: Exclude<Preallocation, 'off'>,
): Promise<void> {
  const { geometry } = image;
  const first = clustersFor(geometry, old);
  const isZero = !image.hasBacking || (await isZeroBelow(below, first * geometry.clusterSize, size));
  await preallocate(image, first, size, { how, hides: !isZero });
}

/** Makes the external data file as long as the disk, with zeros in what is added. */
async function growData(image: Image, old: number, size: number, how: Preallocation): Promise<void> {
  const { file } = image.space;
  const left = Math.min(file.size, size) - old;
  if (left > 0) await file.zero(old, left);
  if (file.size < size) await file.truncate(size);
  if (how === 'falloc' || how === 'full') await spendSpace(file, old, size - old, how);
}

/** Puts zeros over a range of the image below. */
async function hide(image: Image, from: number, to: number, below: BlockSource): Promise<void> {
  const { clusterSize, version } = image.geometry;
  const first = Math.floor(from / clusterSize);
  const end = Math.ceil(to / clusterSize);
  if (version >= 3) await dropClusters(image, first, end, { unallocatedToo: true });
  else await writeZeros(image, first * clusterSize, end * clusterSize, below);
}

/** The rest of the cluster that the old end cut: other writers may have left anything there. */
async function zeroTail(image: Image, old: number, size: number, below: BlockSource): Promise<void> {
  const { clusterSize, subclusterSize, subclusters } = image.geometry;
  if (old % clusterSize === 0) return;
  const end = Math.min(size, Math.ceil(old / clusterSize) * clusterSize);
  const cluster = Math.floor(old / clusterSize);
  const entry = await entryOf(image, cluster);
  for (let at = old; at < (cluster + 1) * clusterSize; ) {
    const unit = Math.floor(at / subclusterSize);
    const next = (unit + 1) * subclusterSize;
    switch (subclusterState(entry, unit % subclusters)) {
      case SubclusterState.zero:
        break;
      case SubclusterState.unallocated: {
        const to = Math.min(next, end);
        if (image.hasBacking && at < to && !(await isZeroBelow(below, at, to)))
          await writeZeros(image, at, to, below);
        break;
      }
      default:
        await writeZeros(image, at, next, below);
    }
    at = next;
  }
}
