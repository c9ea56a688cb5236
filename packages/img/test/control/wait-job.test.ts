import assert from 'node:assert/strict';
import { test } from 'node:test';
import { command, connectQmp, listenQmp, type QmpServer } from '@strata/qmp';
import { temporaryFolder } from '@strata/testkit';
import { waitForJob } from '../../src/control/wait-job.ts';

/** A server with the jobs that it is told to have, and what it tells while `query-jobs` is answered. */
async function waiting(
  jobs: readonly { readonly id: string; readonly status: string; readonly error?: string }[],
  tell: (server: QmpServer) => void,
  id = 'j',
): Promise<void> {
  await using folder = await temporaryFolder();
  const path = folder.file('qmp');
  const rows = [
    command('query-jobs', {}, () => jobs),
    command('begin', {}, () => {
      tell(server);
      return undefined;
    }),
  ];
  const version = { qemu: { major: 7, minor: 2, micro: 0 }, package: 'test' };
  await using server = await listenQmp({ path, version, commands: rows });
  await using client = await connectQmp({ path });
  await client.execute('begin');
  await waitForJob(client, id);
}

const running = [{ id: 'j', status: 'running' }];

test('a job that ends well, or waits for a command, has been waited for', async () => {
  for (const event of ['BLOCK_JOB_COMPLETED', 'BLOCK_JOB_READY', 'BLOCK_JOB_PENDING']) {
    const data = event === 'BLOCK_JOB_PENDING' ? { id: 'j' } : { device: 'j' };
    const others = (server: QmpServer): void => {
      server.emit('BLOCK_JOB_COMPLETED', { device: 'other', error: 'no matter' });
      server.emit('JOB_STATUS_CHANGE', { id: 'j', status: 'running' });
      server.emit(event, data);
    };
    await waiting(running, others);
    await waiting([], others);
  }
  for (const status of ['ready', 'pending', 'concluded'])
    await waiting([{ id: 'j', status }], () => undefined);
});

test('a job that failed, was cancelled, or is not known is an error', async () => {
  const failed = (server: QmpServer): void =>
    server.emit('BLOCK_JOB_COMPLETED', { device: 'j', error: 'no space' });
  await assert.rejects(waiting(running, failed), /job 'j' failed: no space/);
  await assert.rejects(waiting([], failed), /job 'j' failed: no space/);
  const concluded = [{ id: 'j', status: 'concluded', error: 'gone' }];
  await assert.rejects(
    waiting(concluded, () => undefined),
    /job 'j' failed: gone/,
  );
  const cancelled = (server: QmpServer): void => server.emit('BLOCK_JOB_CANCELLED', { device: 'j' });
  await assert.rejects(waiting(running, cancelled), /job 'j' was cancelled/);
  await assert.rejects(
    waiting([], () => undefined),
    /Job not found: 'j'/,
  );
});
