import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { requires, storageDaemon, temporaryFolder } from '@strata/testkit';
import { connectQmp } from '../src/client.ts';
import { QmpError } from '../src/qmp-error.ts';

const tools = requires('qemu-storage-daemon');
const blockdevs = [{ driver: 'null-co', 'node-name': 'nothing', size: 1_048_576 }];

test('a command returns what QEMU returns, and rejects with its sentence', tools, async () => {
  await using folder = await temporaryFolder();
  await using daemon = await storageDaemon(folder.path, {
    blockdevs,
    exports: [{ id: 'a', 'node-name': 'nothing' }],
  });
  const exports = [{ id: 'a', type: 'nbd', 'node-name': 'nothing', 'shutting-down': false }];
  assert.deepEqual(await daemon.qmp.execute('query-block-exports'), exports);
  await assert.rejects(daemon.qmp.execute('no-such-command'), (error: unknown) => {
    assert.ok(error instanceof QmpError);
    assert.deepEqual(
      [error.kind, error.message],
      ['CommandNotFound', 'The command no-such-command has not been found'],
    );
    return true;
  });
  assert.equal(await daemon.stop(), 0);
});

test('an event is had by who waits for it, before or after it comes', tools, async () => {
  await using folder = await temporaryFolder();
  const exports = ['a', 'b'].map((id) => ({ id, name: id, 'node-name': 'nothing' }));
  await using daemon = await storageDaemon(folder.path, { blockdevs, exports });
  const { qmp } = daemon;
  const early = qmp.event('BLOCK_EXPORT_DELETED', ({ id }) => id === 'b');
  await qmp.execute('block-export-del', { id: 'a' });
  await qmp.execute('block-export-del', { id: 'b' });
  assert.deepEqual((await early).data, { id: 'b' });
  assert.deepEqual((await qmp.event('BLOCK_EXPORT_DELETED')).data, { id: 'a' });
});

test('the end of the server rejects what is still awaited', tools, async () => {
  await using folder = await temporaryFolder();
  await using daemon = await storageDaemon(folder.path, { blockdevs });
  const never = daemon.qmp.event('BLOCK_JOB_COMPLETED');
  await Promise.all([daemon.stop(), assert.rejects(never, /has ended/)]);
  await assert.rejects(daemon.qmp.execute('query-block-exports'), /has ended/);
});

test('what is no QMP server is refused', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('s');
  const server = createServer((socket) => socket.end('NBDMAGIC\n'));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await assert.rejects(connectQmp({ path }), /not QMP: .*'N'/);
  await new Promise((resolve) => server.close(resolve));
});
