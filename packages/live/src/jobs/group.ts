/**
 * Jobs that take effect together or not at all. A job by itself is a group of one.
 *
 * QEMU: job.c, JobTxn.
 */
import type { Job } from './job.ts';

/** Jobs that end together. The one that was made last comes first. */
export class JobGroup {
  #jobs: readonly Job[] = [];
  #isAborting = false;
  #isFinalizing = false;

  /** For the job itself. */
  add(job: Job): void {
    this.#jobs = [job, ...this.#jobs];
  }

  /** For the job itself. */
  remove(job: Job): void {
    this.#jobs = this.#jobs.filter((each) => each !== job);
  }

  /** The work of `job` is done. */
  succeeded(job: Job): void {
    job.becomeWaiting();
    if (this.#isAborting || this.#jobs.some((each) => !each.isDone)) return;
    for (const each of this.#jobs) each.becomePending();
    if (!this.#jobs.some((each) => each.needsFinalize)) void this.finalize();
  }

  /** The work of `job` has failed, or it was cancelled. */
  failed(job: Job): void {
    void this.#abort(job);
  }

  /** Ends `job` and with it the whole group without effect. */
  cancel(job: Job): void {
    job.abandon();
    // Work that goes on ends by itself, and says so.
    if (job.isDone) void this.#abort(job);
  }

  /** Lets all take effect. What goes wrong is told by the jobs. */
  async finalize(): Promise<void> {
    if (this.#isFinalizing || this.#isAborting) return;
    this.#isFinalizing = true;
    for (const job of this.#jobs) {
      try {
        await job.task.prepare?.();
      } catch (error) {
        job.fail(error);
        await this.#abort(job);
        return;
      }
    }
    for (const job of this.#jobs) await job.conclude();
  }

  async #abort(cause: Job): Promise<void> {
    if (this.#isAborting) return;
    this.#isAborting = true;
    const others = this.#jobs.filter((job) => job !== cause);
    for (const job of others) job.abandon();
    for (const job of this.#jobs) {
      await job.untilDone();
      await job.conclude();
    }
  }
}
