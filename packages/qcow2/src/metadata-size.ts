/**
 * How much of a file the tables of an image take.
 *
 * QEMU: the formula is QEMU's, which counts the tables of a disk that is allocated as a whole; `measure` must
 * give its numbers, and space that is preallocated is laid out by them.
 *
 * Spec: qcow2.txt, "Host cluster management" and "Cluster mapping".
 */
import type { Geometry } from './geometry.ts';

/** Refcount structures: blocks of one cluster each, and the clusters of the table that leads to them. */
export interface RefcountStructures {
  readonly blocks: number;
  readonly tableClusters: number;
}

/** What it takes to count `clusters` clusters, and the structures themselves. */
export function refcountStructuresFor(geometry: Geometry, clusters: number): RefcountStructures {
  let blocks = 0;
  let tableClusters = 0;
  for (let all = clusters, before = -1; all !== before; ) {
    before = all;
    blocks = Math.ceil((clusters + tableClusters + blocks) / geometry.refcountBlockEntries);
    tableClusters = Math.ceil(blocks / geometry.wordsPerCluster);
    all = clusters + blocks + tableClusters;
  }
  return { blocks, tableClusters };
}

/** Bytes of a file with all of a disk of `size` bytes allocated: the disk in whole clusters and its tables. */
export function wholeImageSize(geometry: Geometry, size: number): number {
  const { clusterSize, l2EntrySize, l2Entries, wordsPerCluster } = geometry;
  const clusters = Math.ceil(size / clusterSize);
  const l2Tables = Math.ceil(clusters / l2Entries);
  const l2Clusters = (l2Tables * l2Entries * l2EntrySize) / clusterSize;
  const l1Clusters = Math.ceil(l2Tables / wordsPerCluster);
  const counted = 1 + l2Clusters + l1Clusters + clusters;
  const { blocks, tableClusters } = refcountStructuresFor(geometry, counted);
  return (counted + blocks + tableClusters) * clusterSize;
}
