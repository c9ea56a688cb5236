/** What a check has found so far: exact counts, and the first findings as text. */

import type { Sentence } from './sentences.ts';

/** Findings beyond these are counted and not kept. */
const MAX_KEPT = 100_000;

/** One thing that is wrong. `note` explains the finding before it and counts for nothing. */
export interface Finding {
  readonly kind: 'corruption' | 'leak' | 'error' | 'note';
  /** As qemu-img prints it, without the newline at its end. */
  readonly text: string;
}

/** Collects findings. A text is made only if it is kept: a hostile image has millions of them. */
export class Findings {
  readonly #kept: Finding[] = [];
  #omitted = 0;
  #corruptions = 0;
  #leaks = 0;
  #checkErrors = 0;

  /** `times`: the same was found so often. */
  corruption<V extends readonly unknown[]>(times: number, sentence: Sentence<V>, ...values: V): void {
    this.#corruptions += times;
    this.#keep('corruption', times, sentence, values);
  }

  leak<V extends readonly unknown[]>(sentence: Sentence<V>, ...values: V): void {
    this.#leaks++;
    this.#keep('leak', 1, sentence, values);
  }

  /** Something could not be checked. */
  error<V extends readonly unknown[]>(sentence: Sentence<V>, ...values: V): void {
    this.#checkErrors++;
    this.#keep('error', 1, sentence, values);
  }

  /** Something could not be checked, and qemu-img has no sentence for it. */
  silentError(): void {
    this.#checkErrors++;
  }

  note<V extends readonly unknown[]>(sentence: Sentence<V>, ...values: V): void {
    this.#keep('note', 1, sentence, values);
  }

  #keep<V extends readonly unknown[]>(
    kind: Finding['kind'],
    times: number,
    sentence: Sentence<V>,
    values: V,
  ): void {
    const room = Math.min(times, MAX_KEPT - this.#kept.length);
    this.#omitted += times - room;
    if (room === 0) return;
    const finding = { kind, text: sentence(...values) };
    for (let i = 0; i < room; i++) this.#kept.push(finding);
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
