/** The contract between a job, which has states and a name, and what it does. */
import type { JobType } from './events.ts';

/**
 * What a job does, step by step. After `run` there is one `commit` or one `abort`, and at last `clean`: also when the job
 * was never started. `commit` and `abort` must not fail for reasons that the guest could notice.
 */
export interface JobTask {
  readonly type: JobType;
  /** The name of the node that it is about, for messages. */
  readonly node: string;
  /** It is started while its disk is paused, and tells so. */
  readonly startsPaused?: boolean;
  /** Of a job that is ready: it is to end where it is, without taking effect. */
  letGo?(): void;
  /** Does the work. What it rejects with is the job's error. */
  run(work: JobWork): Promise<void>;
  /** Does what can still fail, when all jobs of the group have done their work. */
  prepare?(): Promise<void>;
  /** All jobs of the group have succeeded. */
  commit?(): Promise<void>;
  /** This job or another one of its group has failed or was cancelled. */
  abort?(): Promise<void>;
  clean?(): Promise<void>;
}

/** What a task sees of its job while it runs. */
export interface JobWork {
  /** Aborted when the job is cancelled. */
  readonly signal: AbortSignal;
  /** The job is to be paused: whoever finds this true ends what is in flight and calls `pausePoint`. */
  readonly isPausing: boolean;
  /** Waits while the job is paused. @throws {DiskError} aborted */
  pausePoint(): Promise<void>;
  /**
   * Waits until so many bytes may be moved. False: something else happened to the job, and nothing may be moved yet.
   * Calls must not overlap.
   */
  pace(bytes: number): Promise<boolean>;
  /** So many bytes are done. */
  did(bytes: number): void;
  /** How many bytes are left to do is what `count` says when somebody wants to know. */
  leftIs(count: () => number): void;
  /** All is done but for what the guest writes meanwhile. */
  ready(): void;
  /** A ready job is to end. */
  readonly isCompleting: boolean;
  /** Resolves when something is asked of the job. */
  attention(): Promise<void>;
  /** Says of an error whether it was in reading or in writing. */
  failedIn(operation: 'read' | 'write'): void;
}
