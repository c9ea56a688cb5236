/**
 * Host clusters that nothing in memory refers to any more, while the file may still refer to them.
 *
 * Reused at once, such a cluster could show another one's data after a crash: the table entry that drops it
 * would be lost and the new data not. So it keeps its refcount, and nothing is allocated there, until the
 * barrier that wrote the dropping entries has ended.
 */

/** Clusters that lost one use each. */
export interface ClusterRun {
  readonly first: number;
  readonly count: number;
}

/** What waits for the next barrier. */
export class Quarantine {
  #runs: { readonly first: number; count: number }[] = [];
  #clusters = 0;

  /** How many clusters wait. */
  get clusters(): number {
    return this.#clusters;
  }

  /** Takes in `count` clusters from index `first` on: each lost one use. */
  add(first: number, count = 1): void {
    const last = this.#runs.at(-1);
    if (last !== undefined && last.first + last.count === first) last.count += count;
    else this.#runs.push({ first, count });
    this.#clusters += count;
  }

  /** Hands over what waits, to be released once the state in memory of this moment is in the file. */
  take(): readonly ClusterRun[] {
    const runs = this.#runs;
    this.#runs = [];
    this.#clusters = 0;
    return runs;
  }

  /** Takes back what was handed over. */
  restore(runs: readonly ClusterRun[]): void {
    for (const { first, count } of runs) this.add(first, count);
  }
}
