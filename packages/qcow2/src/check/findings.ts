/** What a check has found so far: exact counts, and the first findings as text. */

/** Findings beyond these are counted and not kept. */
const MAX_KEPT = 100_000;

/** One thing that is wrong. `note` explains the finding before it and counts for nothing. */
export interface Finding {
  readonly kind: 'corruption' | 'leak' | 'error' | 'note';
  /** As qemu-img prints it, without the newline at its end. */
  readonly text: string;
}

/** Collects findings. */
export class Findings {
  readonly #kept: Finding[] = [];
  #omitted = 0;
  #corruptions = 0;
  #leaks = 0;
  #checkErrors = 0;

  /** `times`: the same was found so often. */
  corruption(text: string, times = 1): void {
    this.#corruptions += times;
    this.#keep({ kind: 'corruption', text }, times);
  }

  leak(text: string): void {
    this.#leaks++;
    this.#keep({ kind: 'leak', text }, 1);
  }

  /** Something could not be checked; undefined if there is nothing to say about it. */
  error(text: string | undefined): void {
    this.#checkErrors++;
    if (text !== undefined) this.#keep({ kind: 'error', text }, 1);
  }

  note(text: string): void {
    this.#keep({ kind: 'note', text }, 1);
  }

  #keep(finding: Finding, times: number): void {
    const room = Math.min(times, MAX_KEPT - this.#kept.length);
    for (let i = 0; i < room; i++) this.#kept.push(finding);
    this.#omitted += times - room;
  }

  /** All of it. */
  counts(): {
    readonly corruptions: number;
    readonly leaks: number;
    readonly checkErrors: number;
    readonly findings: readonly Finding[];
    readonly findingsOmitted: number;
  } {
    return {
      corruptions: this.#corruptions,
      leaks: this.#leaks,
      checkErrors: this.#checkErrors,
      findings: this.#kept,
      findingsOmitted: this.#omitted,
    };
  }
}
