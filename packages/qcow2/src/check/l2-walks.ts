/**
 * Which L2 tables a check reaches, and how often.
 *
 * Snapshots share tables, and hostile images let millions of L1 entries lead to one, or to places that are no
 * table's: such a table lies in two clusters.
 */
import { SparseCounters } from './references.ts';

/** How often each L2 table is reached: from the active L1 table, and from those of snapshots. */
export class L2Walks {
  readonly #clusterSize: number;
  readonly #active = new SparseCounters(10);
  readonly #inactive = new SparseCounters(10);
  /** Tables that do not start on a cluster, by offset. The budget bounds them. */
  readonly #unaligned = new Map<number, { active: number; inactive: number }>();
  /** How often those are reached, by the clusters that they lie in. */
  readonly #inPart = new Map<number, number>();

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  /** How often the active L1 table reaches the L2 table at `at`. */
  active(at: number): number {
    const index = at / this.#clusterSize;
    return Number.isInteger(index) ? this.#active.get(index) : (this.#unaligned.get(at)?.active ?? 0);
  }

  /** True if any L1 table reaches the L2 table at `at`. */
  has(at: number): boolean {
    const index = at / this.#clusterSize;
    if (!Number.isInteger(index)) return this.#unaligned.has(at);
    return this.#active.get(index) > 0 || this.#inactive.get(index) > 0;
  }

  /** How often any L1 table reaches a table that lies in the cluster, whole or in part. */
  covering(clusterIndex: number): number {
    const whole = this.#active.get(clusterIndex) + this.#inactive.get(clusterIndex);
    return whole + (this.#inPart.get(clusterIndex) ?? 0);
  }

  /** Counts one more; true if it is the first. */
  reach(at: number, active: boolean): boolean {
    const index = at / this.#clusterSize;
    if (Number.isInteger(index)) {
      const first = !this.has(at);
      (active ? this.#active : this.#inactive).add(index, 1);
      return first;
    }
    const walks = this.#unaligned.get(at) ?? { active: 0, inactive: 0 };
    const first = !this.has(at);
    walks[active ? 'active' : 'inactive']++;
    this.#unaligned.set(at, walks);
    for (const cluster of [Math.floor(index), Math.floor(index) + 1])
      this.#inPart.set(cluster, (this.#inPart.get(cluster) ?? 0) + 1);
    return first;
  }

  /** The tables that were reached more than once. The first time is not in the numbers. */
  *again(): Generator<{ readonly at: number; readonly times: number; readonly activeTimes: number }> {
    const more = (at: number, active: number, inactive: number) => ({
      at,
      times: active + inactive - 1,
      activeTimes: Math.max(0, active - 1),
    });
    for (const [index, active] of this.#active.entries()) {
      const inactive = this.#inactive.get(index);
      if (active + inactive > 1) yield more(index * this.#clusterSize, active, inactive);
    }
    for (const [index, inactive] of this.#inactive.entries()) {
      if (inactive > 1 && this.#active.get(index) === 0) yield more(index * this.#clusterSize, 0, inactive);
    }
    for (const [at, { active, inactive }] of this.#unaligned) {
      if (active + inactive > 1) yield more(at, active, inactive);
    }
  }
}
