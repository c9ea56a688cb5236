/** What the parts of a check share. */
import { DiskError, type HostSource } from '@strata/block';
import type { Geometry } from '../geometry.ts';
import type { Header } from '../header.ts';
import type { Findings } from './findings.ts';
import type { Mending } from './mending.ts';
import type { RefcountsOnDisk } from './refcounts.ts';
import type { References } from './references.ts';

/** One check on its way. */
export interface CheckState {
  readonly file: HostSource;
  readonly header: Header;
  readonly geometry: Geometry;
  readonly references: References;
  readonly refcounts: RefcountsOnDisk;
  readonly findings: Findings;
  readonly budget: MetadataBudget;
  /** L2 entries to mend on the way; undefined: nothing is changed. */
  readonly mending: Mending | undefined;
  /** Refcounts cannot be put right where they are: blocks are missing, broken or shared. */
  needsRebuild: boolean;
}

/** The end of a check that cannot go on. The message is told in the report. */
export class CheckFailed extends Error {}

/**
 * How many bytes of tables a check may read. Each table of a sound image is read three times at most, and
 * sound tables do not overlap, so four times the file is never reached but by an image that was made to
 * keep a checker busy.
 */
export class MetadataBudget {
  readonly #limit: number;
  readonly #signal: AbortSignal | undefined;
  #spent = 0;

  constructor(fileSize: number, signal: AbortSignal | undefined) {
    this.#limit = 4 * fileSize + 64 * 1024 * 1024;
    this.#signal = signal;
  }

  /** Call it before each read. @throws {DiskError} limit, aborted */
  spend(bytes: number): void {
    if (this.#signal?.aborted === true) throw new DiskError('aborted', 'the check was aborted');
    this.#spent += bytes;
    if (this.#spent <= this.#limit) return;
    throw new DiskError(
      'limit',
      `tables overlap: checking would read more than ${this.#limit} bytes of them`,
    );
  }
}
