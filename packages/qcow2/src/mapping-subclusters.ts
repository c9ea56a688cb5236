/**
 * The walk of mapping.ts over extended L2 entries, subcluster by subcluster.
 *
 * A subcluster that is not allocated may still have its place in a host cluster; QEMU tells that place, and
 * `map` prints it.
 *
 * Spec: qcow2.txt, "Extended L2 Entries".
 */
import type { Mapping } from '@strata/block';
import {
  EntryForm,
  type L2Entry,
  placeOf,
  readL2Entry,
  SubclusterState,
  subclusterRun,
  subclusterState,
} from './l2-entry.ts';
import type { MappingContext } from './mapping.ts';
import type { ClusterTable } from './tables.ts';

/** As `mapIn`, for tables of extended entries. */
export function mapSubclusters(
  context: MappingContext,
  table: ClusterTable,
  offset: number,
  limit: number,
): Mapping | undefined {
  const { geometry } = context;
  const { clusterSize, subclusterSize, subclusters, l2Entries } = geometry;
  const cluster = Math.floor(offset / clusterSize);
  const within = offset - cluster * clusterSize;
  const first = Math.floor(within / subclusterSize);
  const index = cluster - Math.floor(cluster / l2Entries) * l2Entries;
  const entry = readL2Entry(geometry, table.view, index);
  if (entry.form === EntryForm.corrupt) return undefined;
  const wanted = Math.min(l2Entries, index + Math.ceil((within + limit) / clusterSize));
  const state = subclusterState(entry, first);
  const at = entry.form === EntryForm.placed ? placeOf(entry) : undefined;

  let run = subclusterRun(entry, first, subclusters);
  let end = first + run;
  for (let next = index + 1; end === subclusters && next < wanted; next++) {
    const other = readL2Entry(geometry, table.view, next);
    if (!continues(other, entry, at, (next - index) * clusterSize) || subclusterState(other, 0) !== state)
      break;
    end = subclusterRun(other, 0, subclusters);
    run += end;
  }
  const length = Math.min((first + run) * subclusterSize - within, limit);
  return answer(context, state, at === undefined ? undefined : at + within, length);
}

/** True if an entry leads to where a run goes on, `distance` bytes behind its first cluster. */
function continues(entry: L2Entry, first: L2Entry, at: number | undefined, distance: number): boolean {
  return entry.form === first.form && (at === undefined || placeOf(entry) === at + distance);
}

function answer(
  { file, sparse }: MappingContext,
  state: SubclusterState,
  at: number | undefined,
  length: number,
): Mapping {
  switch (state) {
    case SubclusterState.data:
      // Without a place there is no data: such an entry is corrupt.
      return { kind: 'raw', length, device: file, at: at ?? 0, sparse };
    case SubclusterState.zero:
      return { kind: 'zero', length, at };
    case SubclusterState.compressed:
      return { kind: 'encoded', length };
    case SubclusterState.unallocated:
      return at === undefined ? { kind: 'below', length } : { kind: 'below', length, at };
  }
}
