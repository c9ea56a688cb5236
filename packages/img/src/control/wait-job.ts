/**
 * Waits for the end of a job on a running server.
 *
 * A job may have gone before it is asked about: what a server told since the connection was made is kept, and counts.
 */
import type { QmpClient, QmpEvent } from '@strata/qmp';
import { CommandError } from '../report.ts';

interface JobInfo {
  readonly id: string;
  readonly status: string;
  readonly error?: string;
}

/** Events after which a job of the block layer does no more by itself. */
const ends: readonly string[] = [
  'BLOCK_JOB_COMPLETED',
  'BLOCK_JOB_CANCELLED',
  'BLOCK_JOB_READY',
  'BLOCK_JOB_PENDING',
];

/** Resolves when the job has ended well, or waits for a command. @throws {CommandError} if it failed, was cancelled, or is unknown */
export async function waitForJob(client: QmpClient, id: string): Promise<void> {
  const jobs = await client.execute<readonly JobInfo[]>('query-jobs');
  const known = jobs.find((job) => job.id === id);
  if (known !== undefined && isSettled(known)) return judge(known.error, id);
  for await (const event of eventsOf(client, known === undefined)) {
    if (!concerns(event, id)) continue;
    const { data = {} } = event;
    if (event.event === 'BLOCK_JOB_CANCELLED') throw new CommandError(`job '${id}' was cancelled`);
    const { error } = data as { readonly error?: string };
    return judge(error, id);
  }
  const sentence = known === undefined ? `Job not found: '${id}'` : `the server ended before job '${id}' did`;
  throw new CommandError(sentence);
}

/** @param onlyKept what is to come cannot be about the job */
async function* eventsOf(client: QmpClient, onlyKept: boolean): AsyncGenerator<QmpEvent, void, undefined> {
  if (onlyKept) yield* client.keptEvents();
  else yield* client.events();
}

function isSettled({ status }: JobInfo): boolean {
  return ['ready', 'pending', 'concluded'].includes(status);
}

function concerns({ event, data = {} }: QmpEvent, id: string): boolean {
  return ends.includes(event) && (data['device'] === id || data['id'] === id);
}

function judge(error: string | undefined, id: string): void {
  if (error !== undefined) throw new CommandError(`job '${id}' failed: ${error}`);
}
