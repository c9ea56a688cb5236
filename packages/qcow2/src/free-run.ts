/**
 * The search for many free clusters in a row, for tables that outgrow a cluster.
 *
 * Clusters that no refcount block counts are free, but to use them a block has to be made, which takes a
 * cluster itself. A run may be longer than what one block counts, so such blocks cannot stand in its way:
 * they come behind it, and have to be free places too.
 */
import type { Geometry } from './geometry.ts';
import type { Refcounts } from './refcounts.ts';
import { type ClusterTable, NO_TABLE } from './tables.ts';

/** What the search found. */
export interface FreeRun {
  /** The run's first cluster; clusters before it are known to be no place. */
  readonly first: number;
  /** The blocks that must be made for it; their places follow the run. */
  readonly absent: readonly number[];
  /** A block that must be loaded first, or that the table does not reach yet; then there is no run so far. */
  readonly missing: number | undefined;
}

/** The lowest free run of `count` clusters from the cluster `from` on, as far as can be told without waiting. */
export function findFreeRun(refcounts: Refcounts, geometry: Geometry, count: number, from: number): FreeRun {
  const { refcountBlockEntries } = geometry;
  let first = from;
  let absent: number[] = [];
  let region = -1;
  let block: ClusterTable = NO_TABLE;
  for (let cluster = first; cluster < first + count + absent.length; cluster++) {
    const index = cluster % refcountBlockEntries;
    if (region < 0 || index === 0) {
      region = Math.floor(cluster / refcountBlockEntries);
      const next = region < refcounts.table.entries ? refcounts.blocks.peek(region) : undefined;
      if (next === undefined) return { first, absent, missing: region };
      block = next;
      if (block === NO_TABLE) absent.push(region);
    }
    if (block !== NO_TABLE && refcounts.read(block, index) !== 0) {
      first = cluster + 1;
      absent = [];
    }
  }
  return { first, absent, missing: undefined };
}
