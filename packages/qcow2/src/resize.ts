/**
 * Changing the size of the disk; making it smaller is in shrink.ts.
 *
 * What is added must read as zeros: the rest of a last cluster that was cut by the old end, entries that
 * were left beyond it, and what an image below would show there. All of that, and an L1 table that had to
 * move to a larger place, is durable before the size in the header changes.
 *
 * Spec: qcow2.txt, "Header", size and l1_size.
 */
import { type BlockSource, DiskError } from '@strata/block';
import { isZeroBelow } from './copy-up.ts';
import { dropClusters } from './discard.ts';
import { MAX_L1_BYTES } from './format.ts';
import { clustersFor, l1EntriesFor } from './geometry.ts';
import { sizePatch } from './header-encode.ts';
import type { Image } from './image.ts';
import { SubclusterState, subclusterState } from './l2-entry.ts';
import { shrink } from './shrink.ts';
import { entryOf, writeZeros } from './zero.ts';

/**
 * Changes the size of the disk. As `Layer.resize`.
 *
 * @throws {DiskError} invalid, limit, not-supported
 */
export async function resize(image: Image, size: number, below: BlockSource): Promise<void> {
  check(image, size);
  await image.holdAll(async () => {
    const old = image.size;
    if (size === old) return;
    if (size < old) return shrink(image, size);
    await growL1(image, l1EntriesFor(image.geometry, size));
    await zeroAdded(image, old, size, below);
    await image.barrier.run();
    const { offset, bytes } = sizePatch(size);
    await image.file.write(bytes, offset);
    await image.file.flush();
    image.size = size;
  });
}

function check(image: Image, size: number): void {
  if (size % 512 !== 0) throw new DiskError('invalid', 'The new size must be a multiple of 512');
  if (image.geometry.version === 2 && image.header.snapshotCount > 0)
    throw new DiskError('not-supported', "Can't resize a v2 image which has snapshots");
  if (l1EntriesFor(image.geometry, size) * 8 > MAX_L1_BYTES)
    throw new DiskError(
      'limit',
      'the disk would be too large for its cluster size: the L1 table ends at 32 MiB',
    );
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

async function zeroAdded(image: Image, old: number, size: number, below: BlockSource): Promise<void> {
  const { clusterSize } = image.geometry;
  const firstNew = Math.ceil(old / clusterSize);
  const end = Math.ceil(size / clusterSize);
  if (old % clusterSize !== 0) await zeroTail(image, old, Math.min(size, firstNew * clusterSize), below);
  await dropClusters(image, firstNew, end, { unallocatedToo: false });
  if (!image.hasBacking) return;
  for (let at = firstNew * clusterSize; at < size; ) {
    const { kind, length } = below.tryExtentAt(at, size - at) ?? (await below.extentAt(at, size - at));
    if (kind === 'data' || kind === 'compressed') await hide(image, at, at + length, below);
    at += length;
  }
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
async function zeroTail(image: Image, old: number, end: number, below: BlockSource): Promise<void> {
  const { clusterSize, subclusterSize, subclusters } = image.geometry;
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
