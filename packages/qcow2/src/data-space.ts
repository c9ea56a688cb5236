/**
 * Where guest clusters have their places: in the image's own file, or in its external data file.
 *
 * In its own file a new cluster goes where the refcounts say that nobody is, and what is let go of waits in
 * quarantine. In a data file every guest cluster has one place, its own offset, which nobody else ever uses:
 * nothing is counted there and nothing is waited for.
 *
 * Spec: qcow2.txt, "Header", incompatible feature bit 2, and "Cluster mapping".
 */
import type { HostFile } from '@strata/block';
import type { Allocator, HostRun } from './allocate.ts';
import { entryOffset, isExclusive } from './entries.ts';
import { clusterIndexOf, type Geometry, type HostOffset, hostOffset } from './geometry.ts';
import type { Structures } from './overlap.ts';
import type { Quarantine } from './quarantine.ts';
import { type Refcounts, refcountZero } from './refcounts.ts';

/** Gives places to guest clusters, and takes them back. */
export interface DataSpace {
  /** Holds the guest's bytes. */
  readonly file: HostFile;
  /**
   * A place for 1 to `most` guest clusters in a row, from `cluster` on.
   *
   * @throws {DiskError} corrupt, no-space
   */
  allocate(cluster: number, most: number): Promise<HostRun>;
  /** The same without waiting; undefined: call `allocate`. @throws {DiskError} corrupt, no-space */
  tryAllocate(cluster: number, most: number): HostRun | undefined;
  /** Gives back a place that no entry ever led to. */
  release(run: HostRun): Promise<void>;
  /** Lets go of a cluster that an entry led to, which has just been changed in memory. */
  drop(at: HostOffset): void;
  /**
   * Whether a cluster that an entry leads to is ours alone; undefined: call `loadUses` first.
   *
   * @throws {DiskError} corrupt if it is in use with refcount 0
   */
  isOurs(high: number, low: number): boolean | undefined;
  /** Sees to it that `isOurs` knows. */
  loadUses(at: HostOffset): Promise<void>;
  /** @throws {DiskError} corrupt if guest bytes at `at` would damage the image's own structures */
  check(at: number, length: number): void;
  /** True if `check` has nothing to say. */
  isSafe(at: number, length: number): boolean;
}

/** What guest clusters in the image's own file need. */
export interface OwnSpaceParts {
  readonly file: HostFile;
  readonly geometry: Geometry;
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly quarantine: Quarantine;
  readonly structures: Structures;
}

/** Guest clusters in the image's own file. */
export function ownSpace(parts: OwnSpaceParts): DataSpace {
  const { file, geometry, refcounts, allocator, quarantine, structures } = parts;
  return {
    file,
    allocate: (_cluster, most) => allocator.allocate(most),
    tryAllocate: (_cluster, most) => allocator.tryAllocate(most),
    release: (run) => allocator.release(run),
    drop: (at) => quarantine.add(clusterIndexOf(geometry, at)),
    isOurs: (high, low) => {
      if (isExclusive(high)) return true;
      const at = entryOffset(high, low);
      const uses = refcounts.peek(clusterIndexOf(geometry, at));
      if (uses === 0) throw refcountZero(at);
      return uses === undefined ? undefined : uses === 1;
    },
    loadUses: async (at) => {
      await refcounts.get(clusterIndexOf(geometry, at));
    },
    check: (at, length) => structures.check(at, length),
    isSafe: (at, length) => structures.at(at, length) === undefined,
  };
}

/** Guest clusters in an external data file. */
export function externalSpace(file: HostFile, geometry: Geometry): DataSpace {
  const run = (cluster: number, count: number): HostRun => ({
    at: hostOffset(cluster * geometry.clusterSize),
    count,
    virgin: false,
  });
  return {
    file,
    allocate: async (cluster, most) => run(cluster, most),
    tryAllocate: run,
    release: async () => undefined,
    drop: () => undefined,
    isOurs: () => true,
    loadUses: async () => undefined,
    check: () => undefined,
    isSafe: () => true,
  };
}
