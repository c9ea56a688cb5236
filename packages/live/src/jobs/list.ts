/** The jobs of a program, by their ids. */
import { DiskError } from '@strata/block';
import type { JobEvent } from './events.ts';
import { JobGroup } from './group.ts';
import { Job, type JobOptions } from './job.ts';
import type { JobTask } from './task.ts';

/** All jobs that have not been dismissed. */
export class JobList {
  readonly #jobs = new Map<string, Job>();
  readonly #emit: (event: JobEvent) => void;

  /** @param emit hears of everything, in order, while it happens */
  constructor(emit: (event: JobEvent) => void) {
    this.#emit = emit;
  }

  /** The one that was made last comes first. */
  get all(): readonly Job[] {
    return [...this.#jobs.values()].reverse();
  }

  /** The job with this id, if there is one. */
  find(id: string): Job | undefined {
    return this.#jobs.get(id);
  }

  /** @throws {DiskError} invalid for what is no id; exists */
  checkId(id: string): void {
    if (!/^[A-Za-z][\w.-]*$/.test(id)) throw new DiskError('invalid', `Invalid job ID '${id}'`);
    if (this.#jobs.has(id)) throw new DiskError('exists', `Job ID '${id}' already in use`);
  }

  /**
   * Makes a job for `task`, which is dropped or started by the caller.
   * @throws {DiskError} invalid, exists
   */
  create(task: JobTask, options: JobOptions, group = new JobGroup()): Job {
    this.checkId(options.id);
    const job = new Job(task, group, options, this.#emit, () => this.#jobs.delete(options.id));
    this.#jobs.set(options.id, job);
    return job;
  }

  /** Ends all jobs that take no effect by themselves any more, and forgets all. */
  async endAll(): Promise<void> {
    await Promise.all(this.all.map((job) => endOf(job)));
  }
}

/** Cancels a job that goes on, and forgets it when it has ended. */
export async function endOf(job: Job): Promise<void> {
  if (job.status !== 'aborting' && job.status !== 'concluded' && job.status !== 'null') job.cancel();
  await job.concluded;
  if (job.status === 'concluded') job.dismiss();
  await job.dismissed;
}
