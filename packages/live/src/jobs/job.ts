/**
 * A job: something long that is done to a disk in use, with a name, a state, events, and an end that can wait for others.
 *
 * The work itself is a `JobTask`. When it is done the job waits for those of its group; when all are done they are
 * pending, and finalized by themselves or by command; then they conclude, and are forgotten by themselves or by
 * command. If one fails, all others of the group are cancelled, and none takes effect.
 *
 * QEMU: job.c and blockjob.c; the order of its events is what its daemon was seen to send.
 */
import { DiskError, isDiskError } from '@strata/block';
import type { JobEvent, JobStatus, JobTold, JobType } from './events.ts';
import type { JobGroup } from './group.ts';
import { checkVerb, type JobVerb } from './states.ts';
import type { JobTask, JobWork } from './task.ts';
import { Throttle } from './throttle.ts';

/** How a job is to go on. */
export interface JobOptions {
  readonly id: string;
  /** Bytes a second; 0, which is what holds if it is not given: not bounded. */
  readonly speed?: number | undefined;
  /** False: it stays pending until it is told to take effect. */
  readonly autoFinalize?: boolean | undefined;
  /** False: it stays concluded until it is told to go. */
  readonly autoDismiss?: boolean | undefined;
}

/** What is known of a job at a moment. */
export interface JobFacts extends JobTold {
  readonly status: JobStatus;
  readonly isPaused: boolean;
  readonly isReady: boolean;
  readonly autoFinalize: boolean;
  readonly autoDismiss: boolean;
}

/** A job of a disk. It begins with `start`. */
export class Job {
  readonly id: string;
  readonly type: JobType;
  readonly task: JobTask;
  readonly group: JobGroup;
  readonly #autoFinalize: boolean;
  readonly #autoDismiss: boolean;
  readonly #emit: (event: JobEvent) => void;
  readonly #forget: (job: Job) => void;
  readonly #throttle: Throttle;
  readonly #cancelling = new AbortController();
  #status: JobStatus = 'created';
  #isPauseWanted = false;
  #isCompleting = false;
  #isCancelled = false;
  #isDone = false;
  #error: unknown;
  #done = 0;
  #left: () => number = () => 0;
  /** Wakes what waits for something to happen to the job. */
  #waiters: (() => void)[] = [];
  /** Resolves when it has taken effect, or will not any more. */
  readonly concluded: Promise<void>;
  /** Resolves when the job is gone: it has concluded and was dismissed. */
  readonly dismissed: Promise<void>;
  #resolveConcluded: () => void = () => undefined;
  #resolveDismissed: () => void = () => undefined;

  /** Made by `JobList.create`. */
  constructor(
    task: JobTask,
    group: JobGroup,
    { id, speed = 0, autoFinalize = true, autoDismiss = true }: JobOptions,
    emit: (event: JobEvent) => void,
    forget: (job: Job) => void,
  ) {
    this.id = id;
    this.type = task.type;
    this.task = task;
    this.group = group;
    this.#autoFinalize = autoFinalize;
    this.#autoDismiss = autoDismiss;
    this.#emit = emit;
    this.#forget = forget;
    this.#throttle = new Throttle(speed);
    this.concluded = new Promise((resolve) => {
      this.#resolveConcluded = resolve;
    });
    this.dismissed = new Promise((resolve) => {
      this.#resolveDismissed = resolve;
    });
    group.add(this);
    this.#tell();
  }

  get status(): JobStatus {
    return this.#status;
  }

  /** Its work has ended, well or badly. */
  get isDone(): boolean {
    return this.#isDone;
  }

  get error(): unknown {
    return this.#error;
  }

  get needsFinalize(): boolean {
    return !this.#autoFinalize;
  }

  get facts(): JobFacts {
    return {
      ...this.#told(),
      status: this.#status,
      isPaused: this.#isPauseWanted,
      isReady: this.#status === 'ready' || this.#status === 'standby',
      autoFinalize: this.#autoFinalize,
      autoDismiss: this.#autoDismiss,
    };
  }

  /** Takes it up. The work begins with `go`: a task that begins while its disk is paused is paused until then. */
  start(): void {
    this.#become('running');
    if (this.task.startsPaused) this.#become('paused');
  }

  /** Begins the work, when whoever asked for it has heard that it was accepted. */
  go(): void {
    if (this.#status === 'paused') this.#become('running');
    setImmediate(() => void this.#run());
  }

  /** Gives up a job that was not started. */
  async drop(): Promise<void> {
    this.#become('aborting');
    this.#error = cancelled();
    await this.#settle();
    this.group.remove(this);
    this.#become('concluded');
    this.#goAway();
  }

  /** @throws {DiskError} invalid */
  pause(): void {
    this.#check('pause');
    if (this.#isPauseWanted) throw new DiskError('invalid', 'Job is already paused');
    this.#isPauseWanted = true;
    this.#throttle.wake();
    this.#wake();
  }

  /** @throws {DiskError} invalid */
  resume(): void {
    if (!this.#isPauseWanted) throw new DiskError('invalid', "Can't resume a job that was not paused");
    this.#check('resume');
    this.#isPauseWanted = false;
    this.#wake();
  }

  /** @throws {DiskError} invalid */
  setSpeed(speed: number): void {
    this.#check('set-speed');
    if (speed < 0) throw new DiskError('invalid', "Parameter 'speed' expects a non-negative value");
    this.#throttle.rate = speed;
  }

  /** Lets a ready job end. @throws {DiskError} invalid */
  complete(): void {
    this.#check('complete');
    if (this.#isCancelled) {
      throw new DiskError('invalid', `The active block job '${this.id}' cannot be completed`);
    }
    this.#isCompleting = true;
    this.#throttle.wake();
    this.#wake();
  }

  /**
   * Ends the job without effect. A job that is ready only has to be let go, and then has succeeded all the same; with
   * `force` it counts as cancelled. @throws {DiskError} invalid
   */
  cancel({ force = true }: { readonly force?: boolean } = {}): void {
    this.#check('cancel');
    if (!force && this.#status === 'ready') {
      this.task.letGo?.();
      this.#isCompleting = true;
      this.#wake();
      return;
    }
    this.group.cancel(this);
  }

  /** Lets a pending job and its group take effect; resolves when they have, or have failed. @throws {DiskError} invalid */
  async finalize(): Promise<void> {
    this.#check('finalize');
    await this.group.finalize();
  }

  /** Forgets a concluded job. @throws {DiskError} invalid */
  dismiss(): void {
    this.#check('dismiss');
    this.#goAway();
  }

  /** Resolves when the work has ended. */
  async untilDone(): Promise<void> {
    while (!this.#isDone) await this.#happening();
  }

  /** For the group: asks the work to end. */
  abandon(): void {
    this.#isCancelled = true;
    this.#cancelling.abort();
    this.#throttle.wake();
    this.#wake();
  }

  /** For the group: the work is done. */
  becomeWaiting(): void {
    this.#become('waiting');
  }

  /** For the group: the work of all is done. */
  becomePending(): void {
    this.#become('pending');
    if (this.#autoFinalize) return;
    this.#emit({ event: 'BLOCK_JOB_PENDING', data: { type: this.type, id: this.id } });
  }

  /** For the group: its step of preparing has failed. */
  fail(error: unknown): void {
    this.#error ??= error;
  }

  /** For the group: takes effect or not, tells of it, and concludes. */
  async conclude(): Promise<void> {
    if (this.#isCancelled) this.#error ??= cancelled();
    if (this.#error !== undefined && this.#status !== 'aborting') this.#become('aborting');
    await this.#settle();
    const event = this.#isCancelled ? 'BLOCK_JOB_CANCELLED' : 'BLOCK_JOB_COMPLETED';
    const error = this.#isCancelled ? undefined : this.#error;
    this.#emit({
      event,
      data: { ...this.#told(), ...(error !== undefined && { error: sentenceOf(error) }) },
    });
    this.group.remove(this);
    this.#become('concluded');
    this.#resolveConcluded();
    if (this.#autoDismiss) this.#goAway();
  }

  /** Takes effect or not, and tidies up; what goes wrong is the job's error. */
  async #settle(): Promise<void> {
    const { task } = this;
    for (const step of [this.#error === undefined ? 'commit' : 'abort', 'clean'] as const) {
      try {
        await task[step]?.();
      } catch (error) {
        this.#error ??= error;
        if (this.#status !== 'aborting') this.#become('aborting');
      }
    }
  }

  async #run(): Promise<void> {
    try {
      if (this.#isPauseWanted) await this.#pausePoint();
      if (!this.#isCancelled) await this.task.run(this.#work());
    } catch (error) {
      if (!this.#isCancelled || !isDiskError(error, 'aborted')) this.#error = error;
    }
    if (this.#isCancelled) this.#error ??= cancelled();
    this.#isDone = true;
    if (this.#error !== undefined) this.#become('aborting');
    this.#wake();
    if (this.#error === undefined) this.group.succeeded(this);
    else this.group.failed(this);
  }

  #work(): JobWork {
    const job = this;
    return {
      signal: this.#cancelling.signal,
      get isPausing() {
        return job.#isPauseWanted && !job.#isCancelled;
      },
      get isCompleting() {
        return job.#isCompleting;
      },
      pausePoint: () => this.#pausePoint(),
      pace: (bytes) => this.#throttle.take(bytes),
      did: (bytes) => {
        this.#done += bytes;
      },
      leftIs: (count) => {
        this.#left = count;
      },
      ready: () => {
        this.#become('ready');
        this.#emit({ event: 'BLOCK_JOB_READY', data: this.#told() });
      },
      attention: () => this.#happening(),
      failedIn: (operation) => {
        const data = { device: this.id, operation, action: 'report' } as const;
        this.#emit({ event: 'BLOCK_JOB_ERROR', data });
      },
    };
  }

  async #pausePoint(): Promise<void> {
    if (this.#isPauseWanted && !this.#isCancelled) {
      const before = this.#status;
      this.#become(before === 'ready' ? 'standby' : 'paused');
      while (this.#isPauseWanted && !this.#isCancelled) await this.#happening();
      this.#become(before);
    }
    if (this.#isCancelled) throw cancelled();
  }

  /** Resolves when something happens to the job. */
  #happening(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  #check(verb: JobVerb): void {
    checkVerb(this.id, this.#status, verb);
  }

  #become(status: JobStatus): void {
    this.#status = status;
    this.#tell();
  }

  #tell(): void {
    this.#emit({ event: 'JOB_STATUS_CHANGE', data: { id: this.id, status: this.#status } });
  }

  #told(): JobTold {
    return {
      type: this.type,
      device: this.id,
      len: this.#done + this.#left(),
      offset: this.#done,
      speed: this.#throttle.rate,
    };
  }

  #goAway(): void {
    this.#become('null');
    this.#end();
  }

  #end(): void {
    this.#forget(this);
    this.#resolveConcluded();
    this.#resolveDismissed();
  }
}

/** The error of a cancelled job. */
function cancelled(): DiskError {
  return new DiskError('aborted', 'Operation canceled');
}

/** What went wrong, for people. */
export function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
