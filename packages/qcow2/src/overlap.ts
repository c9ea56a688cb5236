/**
 * Keeps guest data out of the image's own structures.
 *
 * In a damaged image an entry may lead to the header or to a table, or a cluster in use may have a refcount
 * of 0. Before bytes go to a cluster it is compared with the structures that are known: header, active L1
 * table, refcount table, snapshot table, and the L2 tables and refcount blocks seen so far. QEMU does the
 * same by default and in these words.
 */
import { DiskError } from '@strata/block';
import type { Geometry } from './geometry.ts';
import type { Header } from './header.ts';
import type { Refcounts } from './refcounts.ts';
import type { ClusterTables } from './tables.ts';

/** Knows where the structures of one image are. */
export class Structures {
  readonly #geometry: Geometry;
  readonly #header: Header;
  readonly #l2: ClusterTables;
  readonly #refcounts: Refcounts;

  constructor(geometry: Geometry, header: Header, l2: ClusterTables, refcounts: Refcounts) {
    this.#geometry = geometry;
    this.#header = header;
    this.#l2 = l2;
    this.#refcounts = refcounts;
  }

  /** The structure that `length` bytes at `at`, which is in a cluster with data, would damage. */
  at(at: number, length: number): string | undefined {
    const end = at + length;
    const l1 = this.#l2.parent;
    const { table, blocks } = this.#refcounts;
    const { clusterSize } = this.#geometry;
    if (at < clusterSize) return 'qcow2_header';
    if (at < l1.at + l1.entries * 8 && l1.at < end) return 'active L1 table';
    if (at < table.at + table.entries * 8 && table.at < end) return 'refcount table';
    const { snapshotsAt, snapshotCount } = this.#header;
    if (snapshotCount > 0 && at < snapshotsAt + snapshotCount * 40 && snapshotsAt < end)
      return 'snapshot table';
    for (let cluster = at - (at % clusterSize); cluster < end; cluster += clusterSize) {
      if (this.#l2.isAt(cluster)) return 'active L2 table';
      if (blocks.isAt(cluster)) return 'refcount block';
    }
    return undefined;
  }

  /** @throws {DiskError} corrupt if bytes at `at` would damage a structure */
  check(at: number, length: number): void {
    const structure = this.at(at, length);
    if (structure === undefined) return;
    const message = `Preventing invalid write on metadata (overlaps with ${structure})`;
    throw new DiskError('corrupt', message, { offset: at, spec: 'qcow2.txt, "Host cluster management"' });
  }
}
