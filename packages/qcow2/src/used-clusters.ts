/**
 * How far the part of the file reaches that the refcounts say is in use.
 *
 * Spec: qcow2.txt, "Host cluster management".
 */
import type { Image } from './image.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';

/** Clusters up to and with the last one that has a refcount. @throws {DiskError} corrupt */
export async function usedClusters(image: Image): Promise<number> {
  const { refcounts, geometry } = image;
  const { table, blocks } = refcounts;
  await table.loadAll();
  for (let index = table.entries - 1; index >= 0; index--) {
    if (table.high(index) === 0 && table.low(index) === 0) continue;
    const block = await blocks.get(index);
    const last = block === NO_TABLE ? -1 : lastCounted(image, block);
    if (last >= 0) return index * geometry.refcountBlockEntries + last + 1;
  }
  return 0;
}

/** The last entry of a refcount block that is not 0; -1: there is none. */
export function lastCounted({ refcounts, geometry }: Image, block: ClusterTable): number {
  let index = geometry.refcountBlockEntries - 1;
  while (index >= 0 && refcounts.read(block, index) === 0) index--;
  return index;
}
