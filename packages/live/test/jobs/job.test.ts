/** The states of jobs and what they tell, as a qemu-storage-daemon 7.2 was seen to tell it of its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError } from '@strata/block';
import type { JobEvent } from '../../src/jobs/events.ts';
import { JobGroup } from '../../src/jobs/group.ts';
import type { Job } from '../../src/jobs/job.ts';
import { endOf, JobList } from '../../src/jobs/list.ts';
import type { JobTask, JobWork } from '../../src/jobs/task.ts';

/** Work that the test ends. */
class TestTask implements JobTask {
  readonly type = 'backup';
  readonly node = 'disk';
  readonly startsPaused = true;
  readonly steps: string[] = [];
  prepareFails: Error | undefined;
  #left = 100;
  cleanFails: Error | undefined;
  #end: (error?: unknown) => void = () => undefined;
  readonly running: Promise<JobWork>;
  #started: (work: JobWork) => void = () => undefined;

  constructor() {
    this.running = new Promise((resolve) => {
      this.#started = resolve;
    });
  }

  async run(work: JobWork): Promise<void> {
    work.leftIs(() => this.#left);
    this.#started(work);
    await new Promise<void>((resolve, reject) => {
      this.#end = (error) => (error === undefined ? resolve() : reject(error));
      work.signal.addEventListener('abort', () => reject(new DiskError('aborted', 'Operation canceled')));
    });
  }

  async end(error?: unknown): Promise<void> {
    const work = await this.running;
    if (error === undefined) {
      work.did(100);
      this.#left = 0;
    } else work.failedIn('write');
    this.#end(error);
  }

  async prepare(): Promise<void> {
    this.steps.push('prepare');
    if (this.prepareFails !== undefined) throw this.prepareFails;
  }

  async commit(): Promise<void> {
    this.steps.push('commit');
  }

  async abort(): Promise<void> {
    this.steps.push('abort');
  }

  async clean(): Promise<void> {
    this.steps.push('clean');
    if (this.cleanFails !== undefined) throw this.cleanFails;
  }
}

class Jobs {
  readonly events: JobEvent[] = [];
  readonly list = new JobList((event) => this.events.push(event));

  begin(options: { id?: string; autoFinalize?: boolean; autoDismiss?: boolean; speed?: number } = {}): {
    job: Job;
    task: TestTask;
  } {
    const task = new TestTask();
    const job = this.list.create(task, { id: 'j', ...options });
    job.start();
    job.go();
    return { job, task };
  }

  /** Events as one line each. */
  get told(): readonly string[] {
    return this.events.splice(0).map(({ event, data }) => {
      if (event === 'JOB_STATUS_CHANGE') return `${data.id} ${data.status}`;
      return `${event} ${JSON.stringify(data)}`;
    });
  }
}

const started = ['j created', 'j running', 'j paused', 'j running'];
const whole = { type: 'backup', device: 'j', len: 100, offset: 100, speed: 0 };

test('a job that succeeds is waiting, pending, concluded and gone', async () => {
  const jobs = new Jobs();
  const { job, task } = jobs.begin();
  assert.deepEqual(jobs.told, started);
  await task.end();
  await job.dismissed;
  const completed = `BLOCK_JOB_COMPLETED ${JSON.stringify(whole)}`;
  assert.deepEqual(jobs.told, ['j waiting', 'j pending', completed, 'j concluded', 'j null']);
  assert.deepEqual(task.steps, ['prepare', 'commit', 'clean']);
  assert.equal(jobs.list.find('j'), undefined);
});

test('a job that finalizes and dismisses by command stays pending, and then concluded', async () => {
  const jobs = new Jobs();
  const { job, task } = jobs.begin({ autoFinalize: false, autoDismiss: false });
  await task.end();
  await until(() => job.status === 'pending');
  assert.deepEqual(jobs.told.slice(-3), [
    'j waiting',
    'j pending',
    'BLOCK_JOB_PENDING {"type":"backup","id":"j"}',
  ]);
  for (const [verb, call] of [
    ['complete', () => job.complete()],
    ['dismiss', () => job.dismiss()],
    ['pause', () => job.pause()],
  ] as const)
    assert.throws(call, { message: `Job 'j' in state 'pending' cannot accept command verb '${verb}'` });
  await job.finalize();
  assert.deepEqual(jobs.told, [`BLOCK_JOB_COMPLETED ${JSON.stringify(whole)}`, 'j concluded']);
  await assert.rejects(job.finalize(), {
    message: "Job 'j' in state 'concluded' cannot accept command verb 'finalize'",
  });
  assert.equal(jobs.list.find('j'), job);
  job.dismiss();
  assert.deepEqual(jobs.told, ['j null']);
  assert.equal(jobs.list.find('j'), undefined);
});

test('a job that fails tells in what, aborts, and completes with its error', async () => {
  const jobs = new Jobs();
  const { job, task } = jobs.begin({ autoDismiss: false });
  void jobs.told;
  await task.end(new DiskError('no-space', 'No space left on device'));
  await job.concluded;
  const data = {
    type: 'backup',
    device: 'j',
    len: 100,
    offset: 0,
    speed: 0,
    error: 'No space left on device',
  };
  assert.deepEqual(jobs.told, [
    'BLOCK_JOB_ERROR {"device":"j","operation":"write","action":"report"}',
    'j aborting',
    `BLOCK_JOB_COMPLETED ${JSON.stringify(data)}`,
    'j concluded',
  ]);
  assert.deepEqual(task.steps, ['abort', 'clean']);
  assert.equal(job.facts.status, 'concluded');
});

test('a job that is cancelled aborts without effect, paused or not', async () => {
  for (const isPaused of [false, true]) {
    const jobs = new Jobs();
    const { job, task } = jobs.begin({ speed: 65_536 });
    const work = await task.running;
    void jobs.told;
    if (isPaused) {
      job.pause();
      assert.equal(work.isPausing, true);
      const paused = work.pausePoint().catch(() => undefined);
      assert.throws(() => job.pause(), { message: 'Job is already paused' });
      assert.deepEqual(jobs.told, ['j paused']);
      job.cancel();
      await paused;
    } else job.cancel();
    await job.dismissed;
    const data = { type: 'backup', device: 'j', len: 100, offset: 0, speed: 65_536 };
    assert.deepEqual(jobs.told, [
      ...(isPaused ? ['j running'] : []),
      'j aborting',
      `BLOCK_JOB_CANCELLED ${JSON.stringify(data)}`,
      'j concluded',
      'j null',
    ]);
    assert.deepEqual(task.steps, ['abort', 'clean']);
  }
});

test('a paused job waits until it is resumed, a ready one in standby', async () => {
  const jobs = new Jobs();
  const { job, task } = jobs.begin();
  const work = await task.running;
  void jobs.told;
  assert.throws(() => job.resume(), { message: "Can't resume a job that was not paused" });
  assert.throws(() => job.complete(), {
    message: "Job 'j' in state 'running' cannot accept command verb 'complete'",
  });
  job.pause();
  const pause = work.pausePoint();
  assert.deepEqual([job.status, job.facts.isPaused], ['paused', true]);
  job.resume();
  await pause;
  work.ready();
  job.pause();
  const standby = work.pausePoint();
  assert.equal(job.status, 'standby');
  job.complete();
  job.resume();
  await standby;
  assert.deepEqual([job.status, work.isCompleting], ['ready', true]);
  const ready = `BLOCK_JOB_READY ${JSON.stringify({ ...whole, offset: 0 })}`;
  assert.deepEqual(jobs.told, ['j paused', 'j running', 'j ready', ready, 'j standby', 'j ready']);
  await task.end();
  await job.dismissed;
});

test('jobs of a group wait for each other and take effect together, the last one made first', async () => {
  const jobs = new Jobs();
  const group = new JobGroup();
  const tasks = [new TestTask(), new TestTask()] as const;
  const [a, b] = tasks.map((task, index) => jobs.list.create(task, { id: 'ab'[index] as string }, group));
  for (const job of [a, b]) job?.start();
  for (const job of [a, b]) job?.go();
  assert.deepEqual(jobs.told, [
    ...['a created', 'b created', 'a running', 'a paused', 'b running', 'b paused', 'a running', 'b running'],
  ]);
  await tasks[1].end();
  await until(() => b?.status === 'waiting');
  assert.deepEqual(tasks[1].steps, []);
  await tasks[0].end();
  await a?.dismissed;
  const states = jobs.told.filter((line) => !line.startsWith('BLOCK'));
  assert.deepEqual(states, [
    ...['b waiting', 'a waiting', 'b pending', 'a pending', 'b concluded', 'b null', 'a concluded', 'a null'],
  ]);
  assert.deepEqual(
    jobs.list.all.map(({ id }) => id),
    [],
  );
});

test('if one of a group is cancelled or fails to prepare, none takes effect', async () => {
  for (const how of ['cancel', 'prepare'] as const) {
    const jobs = new Jobs();
    const group = new JobGroup();
    const tasks = [new TestTask(), new TestTask()] as const;
    const [a, b] = tasks.map((task, index) => jobs.list.create(task, { id: 'ab'[index] as string }, group));
    for (const job of [a, b]) {
      job?.start();
      job?.go();
    }
    await tasks[1].end();
    if (how === 'cancel') a?.cancel();
    else {
      tasks[0].prepareFails = new DiskError('io', 'no');
      await tasks[0].end();
    }
    await Promise.all([a?.dismissed, b?.dismissed]);
    for (const { steps } of tasks) assert.deepEqual(steps.slice(-2), ['abort', 'clean'], how);
    const states = jobs.told
      .filter((line) => /aborting|concluded|BLOCK_JOB/.test(line))
      .map((line) => line.slice(0, 19));
    if (how === 'cancel')
      assert.deepEqual(states, [
        ...[
          'a aborting',
          'b aborting',
          'BLOCK_JOB_CANCELLED',
          'b concluded',
          'BLOCK_JOB_CANCELLED',
          'a concluded',
        ],
      ]);
  }
});

test('what goes wrong while a job tidies up is its error', async () => {
  const jobs = new Jobs();
  const { job, task } = jobs.begin();
  task.cleanFails = new DiskError('io', 'cannot close');
  await task.end();
  await job.dismissed;
  assert.ok(jobs.told.some((line) => line.includes('"error":"cannot close"')));
});

test('ids are as QEMU wants them, and are given once', async () => {
  const jobs = new Jobs();
  const { job, task } = jobs.begin();
  for (const [id, message] of [
    ['', "Invalid job ID ''"],
    ['1bad', "Invalid job ID '1bad'"],
    ['j', "Job ID 'j' already in use"],
  ] as const)
    assert.throws(() => jobs.list.create(new TestTask(), { id }), { message });
  assert.throws(() => job.setSpeed(-1), { message: "Parameter 'speed' expects a non-negative value" });
  job.setSpeed(5);
  assert.equal(job.facts.speed, 5);
  await task.end();
  await job.dismissed;
});

test('a job that was not started is dropped without having run', async () => {
  const jobs = new Jobs();
  const task = new TestTask();
  await jobs.list.create(task, { id: 'j' }).drop();
  assert.deepEqual(jobs.told, ['j created', 'j aborting', 'j concluded', 'j null']);
  assert.deepEqual(task.steps, ['abort', 'clean']);
  assert.equal(jobs.list.find('j'), undefined);
});

test('ending all jobs cancels those that go on, and forgets those that have ended', async () => {
  const jobs = new Jobs();
  const { task } = jobs.begin({ id: 'one', autoDismiss: false });
  await task.end();
  await jobs.list.find('one')?.concluded;
  jobs.begin({ id: 'two', autoDismiss: false });
  const { task: third, job } = jobs.begin({ id: 'three', autoFinalize: false });
  await third.end();
  await until(() => job.status === 'pending');
  await jobs.list.endAll();
  assert.deepEqual(jobs.list.all, []);
  assert.equal(third.steps.includes('commit'), false);
  await endOf(job);
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}
