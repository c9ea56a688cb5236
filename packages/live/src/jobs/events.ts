/**
 * What a job tells of itself while it goes on: the events of QMP.
 *
 * Spec: QEMU documentation, "QEMU QMP Reference Manual", "Background jobs" and "Block device jobs"
 */

/** Where a job stands. */
export type JobStatus =
  | 'created'
  | 'running'
  | 'paused'
  /** Converged: all that is left is to be told to complete. */
  | 'ready'
  /** `ready`, and paused. */
  | 'standby'
  /** Done, while others of its group are not. */
  | 'waiting'
  /** Done, and to be finalized. */
  | 'pending'
  | 'aborting'
  | 'concluded'
  | 'null';

/** What a job does. */
export type JobType = 'backup' | 'commit';

/** How far a job of a disk has come. Sizes are in bytes, and grow and shrink as there is more or less to do. */
export interface JobTold {
  readonly type: JobType;
  /** The job's id. */
  readonly device: string;
  readonly len: number;
  readonly offset: number;
  /** Bytes a second; 0: not bounded. */
  readonly speed: number;
  /** Why it failed. */
  readonly error?: string;
}

/** An event, with the name and the data that it has in QMP. */
export type JobEvent =
  | {
      readonly event: 'JOB_STATUS_CHANGE';
      readonly data: { readonly id: string; readonly status: JobStatus };
    }
  | {
      readonly event: 'BLOCK_JOB_READY' | 'BLOCK_JOB_COMPLETED' | 'BLOCK_JOB_CANCELLED';
      readonly data: JobTold;
    }
  | {
      readonly event: 'BLOCK_JOB_PENDING';
      readonly data: { readonly type: JobType; readonly id: string };
    }
  | {
      readonly event: 'BLOCK_JOB_ERROR';
      readonly data: {
        readonly device: string;
        readonly operation: 'read' | 'write';
        readonly action: 'report';
      };
    };
