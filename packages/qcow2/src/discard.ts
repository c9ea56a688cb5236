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
import type { Image } from './image.ts';
import { allSubclusters, EntryForm, storeL2Entry } from './l2-entry.ts';
import { soundEntry } from './pieces.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';

/** Discards the whole clusters inside a range; the end of the disk counts as the end of a cluster. */
export async function discard(image: Image, offset: number, length: number): Promise<void> {
  if (image.geometry.version === 2 && image.hasBacking) return;
  const { clusterSize } = image.geometry;
  const { first, end } = wholeUnits(image, offset, offset + length, clusterSize);
  if (first >= end) return;
  const from = first * clusterSize;
  await image.holdClusters(from, (end - first) * clusterSize, async () => {
    if (image.isRawData) await image.space.file.zero(from, Math.min(end * clusterSize, image.size) - from);
    await dropClusters(image, first, end, { unallocatedToo: image.hasBacking });
  });
}

/**
 * The units of the disk, clusters or subclusters, that lie inside a range as a whole. `end` is exclusive; if
 * the range reaches to the end of the disk, so do they, to the end of its last cluster.
 */
export function wholeUnits(
  image: Image,
  from: number,
  to: number,
  unit: number,
): { readonly first: number; readonly end: number } {
  const { clusterSize } = image.geometry;
  const first = Math.ceil(from / unit);
  if (to !== image.size || first * unit >= to) return { first, end: Math.floor(to / unit) };
  return { first, end: Math.ceil(to / clusterSize) * (clusterSize / unit) };
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
    await discardInDataFile(image, cluster, stop);
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
  const all = allSubclusters(geometry);
  const dropped = { high: 0, low: 0, zeros: intoNothing ? 0 : all, allocated: 0 };
  for (let index = first; index < end; index++) {
    const { form, high, low, zeros } = soundEntry(image, table, index);
    if (form === EntryForm.empty) {
      if (zeros === dropped.zeros) continue;
      if (!unallocatedToo && !(intoNothing && zeros !== 0)) continue;
    }
    storeL2Entry(geometry, table.view, index, dropped);
    l2.changed(table, index * geometry.l2EntrySize, (index + 1) * geometry.l2EntrySize);
    links.drop(high, low);
  }
}

/**
 * Gives clusters back to the host that an external data file has for nobody else. Whether they are read by the
 * entries of before or of now, they are zeros. It is advice.
 */
async function discardInDataFile(image: Image, first: number, end: number): Promise<void> {
  const { geometry, space, discardHost } = image;
  if (!geometry.externalData || !discardHost) return;
  const from = first * geometry.clusterSize;
  const length = Math.min(end * geometry.clusterSize, space.file.size) - from;
  if (length > 0) await space.file.discard(from, length).catch(() => undefined);
}
