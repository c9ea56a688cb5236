/** Runs jobs for tests, and keeps what they tell. */

import type { JobEvent } from '../src/jobs/events.ts';
import type { Job } from '../src/jobs/job.ts';
import { endOf, JobList } from '../src/jobs/list.ts';
import type { JobTask } from '../src/jobs/task.ts';
import type { LiveDisk } from '../src/live-disk.ts';

/** A job list that remembers. */
export class RecordedJobs {
  readonly events: JobEvent[] = [];
  readonly list = new JobList((event) => this.events.push(event));

  /** Begins a job while `disk` is paused; `atStart` runs at that moment. */
  async begin(
    disk: LiveDisk,
    prepare: (stop: () => Promise<void>) => Promise<JobTask>,
    options: { id?: string; autoFinalize?: boolean; atStart?: () => void; speed?: number } = {},
  ): Promise<Job> {
    const { id = 'j', atStart, ...others } = options;
    const job = await disk.paused(async () => {
      let made: Job | undefined;
      const task = await prepare(async () => {
        if (made !== undefined) await endOf(made);
      });
      made = this.list.create(task, { id, ...others });
      made.start();
      atStart?.();
      return made;
    });
    job.go();
    return job;
  }

  /** The names of the events of a job, with the states. */
  namesOf(id = 'j'): readonly string[] {
    return this.events.flatMap((event) => {
      if (event.event === 'JOB_STATUS_CHANGE') return event.data.id === id ? [event.data.status] : [];
      const of = 'device' in event.data ? event.data.device : event.data.id;
      return of === id ? [event.event] : [];
    });
  }
}
