/**
 * Which commands a job takes in which state.
 *
 * QEMU: job.c, JobVerbTable.
 */
import { DiskError } from '@strata/block';
import type { JobStatus } from './events.ts';

/** What can be asked of a job. */
export type JobVerb = 'cancel' | 'pause' | 'resume' | 'set-speed' | 'complete' | 'finalize' | 'dismiss';

const alive = ['created', 'running', 'paused', 'ready', 'standby'] as const;

const takenIn: Readonly<Record<JobVerb, readonly JobStatus[]>> = {
  cancel: [...alive, 'waiting', 'pending'],
  pause: alive,
  resume: alive,
  'set-speed': alive,
  complete: ['ready', 'standby'],
  finalize: ['pending'],
  dismiss: ['concluded'],
};

/** @throws {DiskError} invalid, in QEMU's words */
export function checkVerb(id: string, status: JobStatus, verb: JobVerb): void {
  if (takenIn[verb].includes(status)) return;
  const message = `Job '${id}' in state '${status}' cannot accept command verb '${verb}'`;
  throw new DiskError('invalid', message);
}
