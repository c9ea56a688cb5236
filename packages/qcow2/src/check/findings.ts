/** What a check has found so far: exact counts, and the first findings as text. */

import type { Sentence } from './sentences.ts';

/** Findings beyond these are counted and not kept. */
const MAX_KEPT = 100_000;

/** One thing that is wrong. `note` explains the finding before it and counts for nothing. */
export interface Finding {
  readonly kind: 'corruption' | 'leak' | 'error' | 'note' | 'repaired';
  /** As qemu-img prints it, without the newline at its end. */
  readonly text: string;
}

/** How much has been found at a moment. */
export interface Counts {
  readonly corruptions: number;
  readonly leaks: number;
  readonly checkErrors: number;
}

/** A sentence that tells of a fault, as QEMU tells of its repair. */
export function repairing<V extends readonly unknown[]>(sentence: Sentence<V>): Sentence<V> {
  return (...values) => sentence(...values).replace(/^(ERROR|Leaked)/, 'Repairing');
}

/** Collects findings. A text is made only if it is kept: a hostile image has millions of them. */
export class Findings {
  readonly #kept: Finding[] = [];
  #omitted = 0;
  #corruptions = 0;
  #leaks = 0;
  #checkErrors = 0;
  #corruptionsFixed = 0;
  #leaksFixed = 0;

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

  /** A corruption or leak that was repaired at once; its sentence tells of the fault. */
  repaired<V extends readonly unknown[]>(
    what: 'corruption' | 'leak',
    sentence: Sentence<V>,
    ...values: V
  ): void {
    if (what === 'corruption') this.#corruptionsFixed++;
    else this.#leaksFixed++;
    this.#keep('repaired', 1, repairing(sentence), values);
  }

  /** `count` corruptions that were said to be repaired could not be. */
  notRepaired(count: number): void {
    this.#corruptionsFixed -= count;
    this.#corruptions += count;
  }

  /** Faults that were told as notes have been repaired. */
  faultsRepaired(count: number): void {
    this.#corruptionsFixed += count;
  }

  /** How much has been found so far. */
  mark(): Counts {
    return { corruptions: this.#corruptions, leaks: this.#leaks, checkErrors: this.#checkErrors };
  }

  /** Counts as if nothing had been found since a moment; what was told stays told. */
  reset({ corruptions, leaks, checkErrors }: Counts): void {
    this.#corruptions = corruptions;
    this.#leaks = leaks;
    this.#checkErrors = checkErrors;
  }

  /** Counts as repaired what there was at a moment and is no more. */
  repairedSince({ corruptions, leaks }: Counts): void {
    this.#corruptionsFixed += Math.max(0, corruptions - this.#corruptions);
    this.#leaksFixed += Math.max(0, leaks - this.#leaks);
  }

  /** What has been repaired so far. */
  fixed(): { readonly corruptionsFixed: number; readonly leaksFixed: number } {
    return { corruptionsFixed: this.#corruptionsFixed, leaksFixed: this.#leaksFixed };
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
