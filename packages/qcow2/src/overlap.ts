/**
 * Keeps guest data out of the image's own structures, and these out of each other.
 *
 * In a damaged image an entry may lead to the header or to a table, or a cluster in use may have a refcount
 * of 0. Before bytes go to a cluster, and before a table is changed for the first time, the place is compared
 * with the structures that are known: header, active L1 table, refcount table, snapshot table, and the L2
 * tables and refcount blocks seen so far. QEMU does the same by default and in these words.
 */
import { damage } from './damage.ts';
import type { Geometry } from './geometry.ts';
import type { Header } from './header.ts';
import type { Refcounts } from './refcounts.ts';
import type { ClusterTables } from './tables.ts';

/** Names of structures, as QEMU has them. */
type Structure =
  | 'qcow2_header'
  | 'active L1 table'
  | 'active L2 table'
  | 'refcount table'
  | 'refcount block'
  | 'snapshot table';

/** Knows where the structures of one image are. */
export class Structures {
  readonly #geometry: Geometry;
  #header: Header;
  readonly #l2: ClusterTables;
  readonly #refcounts: Refcounts;

  constructor(geometry: Geometry, header: Header, l2: ClusterTables, refcounts: Refcounts) {
    this.#geometry = geometry;
    this.#header = header;
    this.#l2 = l2;
    this.#refcounts = refcounts;
  }

  /** From now on the snapshot table is where `header` says. */
  follow(header: Header): void {
    this.#header = header;
  }

  /** The structure that `length` bytes at `at` would damage, if they are not the structure `self`. */
  at(at: number, length: number, self?: Structure | 'metadata'): Structure | undefined {
    const { clusterSize } = this.#geometry;
    const { table, blocks } = this.#refcounts;
    const { snapshotsAt, snapshotCount } = this.#header;
    const l1 = this.#l2.parent;
    const touches = (start: number, bytes: number): boolean => at < start + bytes && start < at + length;
    if (touches(0, clusterSize)) return 'qcow2_header';
    if (self !== 'active L1 table' && touches(l1.at, l1.entries * 8)) return 'active L1 table';
    if (self !== 'refcount table' && touches(table.at, table.entries * 8)) return 'refcount table';
    if (touches(snapshotsAt, snapshotCount * 40)) return 'snapshot table';
    for (let cluster = at - (at % clusterSize); cluster < at + length; cluster += clusterSize) {
      if (self !== 'active L2 table' && this.#l2.isAt(cluster)) return 'active L2 table';
      if (self !== 'refcount block' && blocks.isAt(cluster)) return 'refcount block';
    }
    return undefined;
  }

  /** @throws {DiskError} corrupt if bytes at `at`, guest data or the structure `self`, would damage another one */
  check(at: number, length: number, self?: Structure | 'metadata'): void {
    const structure = this.at(at, length, self);
    if (structure === undefined) return;
    const message = `Preventing invalid write on ${self ?? 'metadata'} (overlaps with ${structure})`;
    throw damage(this.#geometry, message, at, 'qcow2.txt, "Host cluster management"');
  }

  /** Checks the tables that the header leads to. @throws {DiskError} corrupt */
  checkHeader(): void {
    const l1 = this.#l2.parent;
    const { table } = this.#refcounts;
    if (l1.entries > 0) this.check(l1.at, l1.entries * 8, 'active L1 table');
    this.check(table.at, table.entries * 8, 'refcount table');
  }
}
