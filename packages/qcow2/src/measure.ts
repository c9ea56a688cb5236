/**
 * How much room an image takes before it is made: for a disk of some size, or for the content of another disk.
 *
 * QEMU: the numbers are QEMU's. All tables of a full disk are counted even where few clusters are needed, so that
 * `required` is a promise: what is copied fits.
 *
 * Spec: qcow2.txt, "Cluster mapping", "Host cluster management", "Bitmaps".
 */
import { type BlockSource, DiskError, type Preallocation, readsAsZeros, walkExtents } from '@strata/block';
import type { LuksChoices } from '@strata/luks';
import { Incompatible, MAX_CLUSTER_BITS, MAX_L1_BYTES, MIN_CLUSTER_BITS } from './format.ts';
import { type Geometry, geometryOf, l1EntriesFor } from './geometry.ts';
import { wholeImageSize } from './metadata-size.ts';

/** What the image is to be; the defaults are QEMU's. */
export interface MeasureOptions {
  readonly version?: 2 | 3;
  readonly clusterSize?: number;
  readonly refcountBits?: number;
  readonly extendedL2?: boolean;
  readonly preallocation?: Preallocation;
  /** It is to lie over a backing file, of which nobody knows how much it has in common with the disk. */
  readonly hasBacking?: boolean;
  /** It is to be encrypted with LUKS. */
  readonly encryption?: LuksChoices;
}

/** Bytes of the image's file. */
export interface Measure {
  /** Enough for the disk as it is. */
  readonly required: number;
  /** Enough once all of the disk has been written. */
  readonly fullyAllocated: number;
}

/**
 * Measures an image of a disk of so many bytes that nothing has been written to, or of a disk's content.
 *
 * @throws {DiskError} invalid, limit, not-supported, and what the disk throws
 */
export async function measureQcow2(
  disk: number | BlockSource,
  options: MeasureOptions = {},
): Promise<Measure> {
  const geometry = newGeometry(options);
  const { clusterSize } = geometry;
  const keyArea = options.encryption === undefined ? 0 : await keyAreaOf(options.encryption);
  // QEMU does not look at the size of a disk that is there.
  if (typeof disk === 'number' && l1EntriesFor(geometry, disk) * 8 > MAX_L1_BYTES)
    throw new DiskError('limit', 'The image size is too large (try using a larger cluster size)');
  const inClusters = (bytes: number): number => Math.ceil(bytes / clusterSize) * clusterSize;
  const size = inClusters(typeof disk === 'number' ? disk : disk.size);
  const fullyAllocated = inClusters(keyArea) + wholeImageSize(geometry, size);
  if (!Number.isSafeInteger(fullyAllocated))
    throw new DiskError('limit', 'The image size is too large (try using a larger cluster size)');
  const tables = fullyAllocated - size;
  const { preallocation = 'off', hasBacking = false } = options;
  if (preallocation === 'falloc' || preallocation === 'full')
    return { required: fullyAllocated, fullyAllocated };
  if (typeof disk === 'number') return { required: tables, fullyAllocated };
  if (hasBacking) return { required: fullyAllocated, fullyAllocated };
  return { required: tables + (await clustersWithData(disk, clusterSize)) * clusterSize, fullyAllocated };
}

/** A bitmap that is to be copied into the image. */
export interface BitmapToMeasure {
  readonly name: string;
  readonly granularity: number;
}

/** Bytes that bitmaps of a disk of `diskSize` bytes take in an image with such clusters. */
export function bitmapsSize(
  bitmaps: readonly BitmapToMeasure[],
  diskSize: number,
  clusterSize: number,
): number {
  const clusters = (bytes: number): number => Math.ceil(bytes / clusterSize);
  let directory = 0;
  let all = 0;
  for (const { name, granularity } of bitmaps) {
    const data = clusters(Math.ceil(Math.ceil(diskSize / granularity) / 8));
    all += data + clusters(data * 8);
    directory += Math.ceil((24 + Buffer.byteLength(name)) / 8) * 8;
  }
  return (all + clusters(directory)) * clusterSize;
}

function newGeometry(options: MeasureOptions): Geometry {
  const { version = 3, clusterSize = 65_536, refcountBits = 16, extendedL2 = false } = options;
  const clusterBits = Math.log2(clusterSize);
  const refcountOrder = Math.log2(refcountBits);
  const invalid = (message: string): DiskError => new DiskError('invalid', message);
  if (!Number.isInteger(clusterBits) || clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    throw invalid('Cluster size must be a power of two between 512 and 2048k');
  if (extendedL2 && clusterSize < 16_384)
    throw invalid('Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > 6)
    throw invalid('Refcount width must be a power of two and may not exceed 64 bits');
  if (version < 3 && refcountBits !== 16)
    throw invalid(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
    );
  const incompatible = extendedL2 ? Incompatible.extendedL2 : 0n;
  return geometryOf({ version, clusterBits, refcountOrder, incompatible });
}

async function keyAreaOf(choices: LuksChoices): Promise<number> {
  return (await import('@strata/luks')).planLuks(choices).payloadOffset;
}

/** How many clusters of the new image hold bytes that are not zeros for certain. */
async function clustersWithData(disk: BlockSource, clusterSize: number): Promise<number> {
  let count = 0;
  let counted = 0;
  await walkExtents(disk, 0, disk.size, (extent) => {
    if (readsAsZeros(extent)) return true;
    const first = Math.max(counted, Math.floor(extent.offset / clusterSize));
    counted = Math.max(counted, Math.ceil((extent.offset + extent.length) / clusterSize));
    count += counted - first;
    return true;
  });
  return count;
}
