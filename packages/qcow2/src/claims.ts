/**
 * Which guest ranges are being changed: overlapping changes wait for each other, in order of arrival.
 *
 * A write into clusters that are in place claims its bytes only, so that small writes into one cluster run
 * side by side; everything that changes a table entry claims whole clusters. Few changes are under way at a
 * time, so a plain list in order of arrival is the fastest structure: an uncontended claim is a short scan.
 */

/** A range being changed, or waiting to be. */
export interface Claim {
  readonly from: number;
  readonly to: number;
}

interface Entry extends Claim {
  from: number;
  to: number;
  /** Set while it waits. */
  grant: (() => void) | undefined;
}

/** The claims of one image. `to` is exclusive. */
export class Claims {
  readonly #entries: Entry[] = [];
  #waiting = 0;

  /** Claims a range that nobody has or waits for; undefined if somebody does. */
  tryTake(from: number, to: number): Claim | undefined {
    if (this.#isBlocked(from, to, this.#entries.length)) return undefined;
    const entry: Entry = { from, to, grant: undefined };
    this.#entries.push(entry);
    return entry;
  }

  /** Claims a range, after all overlapping claims that came before. */
  async take(from: number, to: number): Promise<Claim> {
    const claim = this.tryTake(from, to);
    if (claim !== undefined) return claim;
    const entry: Entry = { from, to, grant: undefined };
    this.#entries.push(entry);
    this.#waiting++;
    await new Promise<void>((resolve) => {
      entry.grant = resolve;
    });
    return entry;
  }

  /** Gives back all of a claim but the part from `from` to `to`. */
  narrow(claim: Claim, from: number, to: number): void {
    const entry = claim as Entry;
    entry.from = from;
    entry.to = to;
    if (this.#waiting > 0) this.#grant();
  }

  /** Ends a claim. */
  release(claim: Claim): void {
    this.#entries.splice(this.#entries.indexOf(claim as Entry), 1);
    if (this.#waiting > 0) this.#grant();
  }

  /** True if one of the first `count` entries overlaps the range. */
  #isBlocked(from: number, to: number, count: number): boolean {
    const entries = this.#entries;
    for (let i = 0; i < count; i++) {
      const entry = entries[i] as Entry;
      if (entry.from < to && from < entry.to) return true;
    }
    return false;
  }

  #grant(): void {
    this.#entries.forEach((entry, index) => {
      const { grant } = entry;
      if (grant === undefined || this.#isBlocked(entry.from, entry.to, index)) return;
      entry.grant = undefined;
      this.#waiting--;
      grant();
    });
  }
}
