/**
 * Tells whether an image was made with its metadata preallocated: all clusters mapped, few of them written.
 *
 * In such an image a mapped cluster says little, so `Mapping.sparse` sends whoever asks on to the host file.
 * Asking the host costs, so it is done only here. QEMU: the rule and its numbers are QEMU's, because `map`
 * must print what qemu-img prints. Clusters with a refcount must outnumber those that the host really spends
 * by more than a ninth, and by two at least.
 */
import { type HostSource, isDiskError } from '@strata/block';
import type { Geometry } from './geometry.ts';
import type { Refcounts } from './refcounts.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';

/** True if the image looks preallocated. Damage in the refcounts makes it false; reading errors reject. */
export async function hasPreallocatedMetadata(
  file: HostSource,
  geometry: Geometry,
  refcounts: Refcounts,
): Promise<boolean> {
  const allocated = await file.allocated();
  if (allocated === undefined) return false;
  const spent = Math.floor(allocated / geometry.clusterSize);
  const threshold = Math.max(Math.floor((spent * 10) / 9), spent + 2);
  const clusters = Math.ceil(file.size / geometry.clusterSize);
  if (threshold > clusters) return false;
  try {
    return await reaches(threshold, clusters, geometry, refcounts);
  } catch (error) {
    if (isDiskError(error, 'corrupt')) return false;
    throw error;
  }
}

/** True if at least `threshold` of the first `clusters` clusters have a refcount. */
async function reaches(
  threshold: number,
  clusters: number,
  geometry: Geometry,
  refcounts: Refcounts,
): Promise<boolean> {
  const { refcountBlockEntries } = geometry;
  // A hostile table may lead to one block a million times: each block is counted once.
  const counted = new Map<number, number>();
  let total = 0;
  const { table, blocks } = refcounts;
  for (let index = 0; index < table.entries && index * refcountBlockEntries < clusters; index++) {
    if (!table.isLoaded(index)) await table.load(index);
    const absent = table.zeroRun(index);
    if (absent > 0) {
      index += absent - 1;
      continue;
    }
    const block = blocks.peek(index) ?? (await blocks.get(index));
    if (block === NO_TABLE) continue;
    const entries = Math.min(refcountBlockEntries, clusters - index * refcountBlockEntries);
    const isWhole = entries === refcountBlockEntries;
    const used = (isWhole ? counted.get(block.at) : undefined) ?? countUsed(refcounts, block, entries);
    if (isWhole) counted.set(block.at, used);
    total += used;
    if (total >= threshold) return true;
  }
  return false;
}

function countUsed(refcounts: Refcounts, block: ClusterTable, entries: number): number {
  let used = 0;
  for (let index = 0; index < entries; index++) if (refcounts.read(block, index) !== 0) used++;
  return used;
}
