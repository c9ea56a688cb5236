/**
 * Letting go of guest clusters: discard, and the part of zeroing that needs no data.
 *
 * Only entries change, in memory; what they led to goes into quarantine and comes free, and out of the file
 * where that is wished, after the barrier that writes the entries.
 *
 * QEMU: what becomes of a discarded cluster is QEMU's choice. In version 3 it reads as zeros from then on,
 * above a backing file even where nothing was allocated. Version 2 has no zero flag: there the cluster becomes
 * unallocated, and above a backing file, which would show through, discard does nothing.
 */
import { ClusterKind, clusterKind, encodeZeroLow, entryHigh, entryLow, setEntry } from './entries.ts';
import type { Image } from './image.ts';
import { corruptEntry } from './mapping.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';

/** Discards the whole clusters inside a range; the end of the disk counts as the end of a cluster. */
export async function discard(image: Image, offset: number, length: number): Promise<void> {
  if (image.geometry.version === 2 && image.hasBacking) return;
  const { first, end } = wholeClusters(image, offset, offset + length);
  if (first >= end) return;
  const { clusterSize } = image.geometry;
  await image.holdClusters(first * clusterSize, (end - first) * clusterSize, () =>
    dropClusters(image, first, end, { unallocatedToo: image.hasBacking }),
  );
}

/** The guest clusters that lie inside a range as a whole. `end` is exclusive. */
export function wholeClusters(
  image: Image,
  from: number,
  to: number,
): { readonly first: number; readonly end: number } {
  const { clusterSize } = image.geometry;
  const end = to === image.size ? Math.ceil(to / clusterSize) : Math.floor(to / clusterSize);
  return { first: Math.ceil(from / clusterSize), end };
}

/** What becomes of clusters. */
export interface DropOptions {
  /** In version 3: clusters that are not allocated become zero clusters too. */
  readonly unallocatedToo: boolean;
  /** They become unallocated in version 3 as well, zero clusters too: nothing will show them any more. */
  readonly intoNothing?: boolean;
}

/**
 * Makes clusters that the caller holds read as zeros and lets go of what they held: as zero clusters in
 * version 3, as unallocated ones in version 2.
 *
 * @throws {DiskError} corrupt
 */
export async function dropClusters(
  image: Image,
  first: number,
  end: number,
  how: DropOptions,
): Promise<void> {
  const { l2Entries, version } = image.geometry;
  const intoNothing = how.intoNothing === true || version < 3;
  const unallocatedToo = how.unallocatedToo && !intoNothing;
  for (let cluster = first; cluster < end; ) {
    const l1Index = Math.floor(cluster / l2Entries);
    const stop = Math.min(end, (l1Index + 1) * l2Entries);
    if (!unallocatedToo && image.l2.peek(l1Index) === NO_TABLE) {
      cluster = stop;
      continue;
    }
    const table = image.links.peek(l1Index);
    if (table === undefined) {
      // What has no table is known to have none only after it was looked for.
      if (image.l2.peek(l1Index) === undefined) await image.l2.load(l1Index);
      else await image.links.make(l1Index);
      continue;
    }
    const start = l1Index * l2Entries;
    dropInTable(image, table, cluster - start, stop - start, { unallocatedToo, intoNothing });
    cluster = stop;
    const relief = image.barrier.relieve();
    if (relief !== undefined) await relief;
  }
}

function dropInTable(
  image: Image,
  table: ClusterTable,
  first: number,
  end: number,
  { unallocatedToo, intoNothing }: Required<DropOptions>,
): void {
  const { geometry, links, l2 } = image;
  const newLow = intoNothing ? 0 : encodeZeroLow(0);
  for (let index = first; index < end; index++) {
    const high = entryHigh(table.view, index);
    const low = entryLow(table.view, index);
    const kind = clusterKind(geometry, high, low);
    if (kind === ClusterKind.corrupt) throw corruptEntry(geometry, table, index);
    if (kind === ClusterKind.zero && !intoNothing) continue;
    if (kind === ClusterKind.unallocated && !unallocatedToo) continue;
    setEntry(table.view, index, 0, newLow);
    l2.changed(table, index * 8, index * 8 + 8);
    links.drop(high, low);
  }
}
