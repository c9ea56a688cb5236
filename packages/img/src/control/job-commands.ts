/** The commands about jobs, in the words of QEMU's two generations of them. */
import { type Job, type JobFacts, sentenceOf } from '@strata/live';
import {
  command,
  flag,
  integer,
  type JsonObject,
  optional,
  type QmpCommand,
  QmpError,
  refusal,
  text,
} from '@strata/qmp';
import type { Steering } from './steering.ts';

/** What can be done to a job by its name alone. */
const verbs: Readonly<Record<'pause' | 'resume' | 'complete' | 'dismiss', (job: Job) => void>> = {
  pause: (job) => job.pause(),
  resume: (job) => job.resume(),
  complete: (job) => job.complete(),
  dismiss: (job) => job.dismiss(),
};

/** All of them. */
export function jobCommands({ jobs }: Steering): readonly QmpCommand[] {
  const job = (id: string): Job => {
    const found = jobs.find(id);
    if (found === undefined) throw refusal('Job not found');
    return found;
  };
  const blockJob = (id: string): Job => {
    const found = jobs.find(id);
    if (found === undefined) throw new QmpError('DeviceNotActive', `Block job '${id}' not found`);
    return found;
  };
  /** The reply is empty. */
  const done = async (call: void | Promise<void>): Promise<undefined> => {
    await call;
    return undefined;
  };
  const named = Object.entries(verbs).flatMap(([verb, run]) => [
    command(`job-${verb}`, { id: text }, ({ id }) => done(run(job(id)))),
    // Of the older ones those for the end of a job call it by its id too.
    verb === 'dismiss'
      ? command(`block-job-${verb}`, { id: text }, ({ id }) => done(run(blockJob(id))))
      : command(`block-job-${verb}`, { device: text }, ({ device }) => done(run(blockJob(device)))),
  ]);
  return [
    command('query-jobs', {}, () => jobs.all.map(jobInfo)),
    command('query-block-jobs', {}, () => jobs.all.map(blockJobInfo)),
    ...named,
    command('job-finalize', { id: text }, ({ id }) => done(job(id).finalize())),
    command('block-job-finalize', { id: text }, ({ id }) => done(blockJob(id).finalize())),
    command('job-cancel', { id: text }, ({ id }) => done(job(id).cancel())),
    command('block-job-cancel', { device: text, force: optional(flag) }, ({ device, force = false }) => {
      const found = blockJob(device);
      if (found.facts.isPaused && !force)
        throw refusal(`The block job for device '${device}' is currently paused`);
      found.cancel({ force });
      return undefined;
    }),
    command('block-job-set-speed', { device: text, speed: integer }, ({ device, speed }) => {
      blockJob(device).setSpeed(speed);
      return undefined;
    }),
  ];
}

function jobInfo({ id, error, facts }: Job): JsonObject {
  const { type, status, len, offset } = facts;
  return { id, type, status, 'current-progress': offset, 'total-progress': len, error: told(error, facts) };
}

function blockJobInfo({ error, facts }: Job): JsonObject {
  const { device, type, status, len, offset, speed } = facts;
  return {
    device,
    type,
    status,
    len,
    offset,
    speed,
    busy: false,
    paused: facts.isPaused,
    ready: facts.isReady,
    'io-status': 'ok',
    'auto-finalize': facts.autoFinalize,
    'auto-dismiss': facts.autoDismiss,
    error: told(error, facts),
  };
}

/** Why a job has ended without effect, once it has. */
function told(error: unknown, { status }: JobFacts): string | undefined {
  if (error === undefined || status !== 'concluded') return undefined;
  return sentenceOf(error);
}
