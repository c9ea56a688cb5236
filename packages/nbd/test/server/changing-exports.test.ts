/** Exports that come and go while a server runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { requires, runOk } from '@strata/testkit';
import { openNbd } from '../../src/client/device.ts';
import { request, serving, simple } from './serving.ts';
import { ioError, testDisk } from './test-disk.ts';

test('an export that is added is there for clients who come, and for those who choose later', async () => {
  const [first, second] = [testDisk(), testDisk()];
  first.bytes.fill(1);
  second.bytes.fill(2);
  await using serve = await serving({ exports: [{ name: 'first', device: first.device }] });
  await using waiting = await serve.connect();
  serve.server.addExport({ name: 'second', device: second.device });
  await using client = await serve.connected({ name: 'second' });
  client.send(request(0, 0, 2));
  await client.expect(`${simple()} 0202`);
  assert.throws(() => serve.server.addExport({ name: 'second', device: first.device }), RangeError);
  assert.throws(() => serve.server.addExport({ name: 'x'.repeat(4097), device: first.device }), RangeError);
  assert.deepEqual(
    serve.server.figures().map(({ exportName }) => exportName),
    ['first', 'second'],
  );
  waiting.send('00000003');
});

test('a server may begin without exports', async () => {
  await using serve = await serving({ exports: [] });
  serve.server.addExport({ name: 'a', source: testDisk().device });
  await using connection = await openNbd({ address: { path: serve.path }, exportName: 'a', user: undefined });
  assert.equal(connection.source.size, testDisk().device.size);
});

test('an export in use is not removed safely, and goes on', async () => {
  await using serve = await serving({ exports: [{ name: 'a', device: testDisk().device }] });
  await using client = await serve.connected({ name: 'a' });
  assert.equal(serve.server.clientsOf('a'), 1);
  const refused = serve.server.removeExport('a', { mode: 'safe' });
  await assert.rejects(refused, (error) => isDiskError(error, 'busy'));
  client.send(request(0, 0, 1));
  await client.expect(`${simple()} 00`);
  const unknown = serve.server.removeExport('b', { mode: 'hard' });
  await assert.rejects(unknown, (error) => isDiskError(error, 'not-found'));
});

test('an export that nobody uses is removed, flushed, and can be added again', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: 'a', device: disk.device }] });
  {
    await using client = await serve.connected({ name: 'a' });
    client.send(`${request(1, 0, 1)} 07`);
    await client.expect(simple());
    client.send(request(2, 0, 0));
    await client.expectEnd();
  }
  while (serve.server.clientsOf('a') > 0) await new Promise(setImmediate);
  await serve.server.removeExport('a', { mode: 'safe' });
  assert.deepEqual(disk.calls, ['write 0+1', 'flush']);
  const target = { address: { path: serve.path }, exportName: 'a', user: undefined };
  await assert.rejects(openNbd(target), (error) => isDiskError(error));
  serve.server.addExport({ name: 'a', device: disk.device });
  await using again = await openNbd(target);
  const byte = new Uint8Array(1);
  await again.source.read(byte, 0);
  assert.equal(byte[0], 7);
});

test('hard removal cuts its clients off, waits for what the disk does for them, and leaves others alone', async () => {
  const [disk, other] = [testDisk(), testDisk()];
  await using serve = await serving({
    exports: [
      { name: 'a', device: disk.device },
      { name: 'b', device: other.device },
    ],
  });
  await using client = await serve.connected({ name: 'a' });
  await using bystander = await serve.connected({ name: 'b' });
  const release = disk.hold('write');
  client.send(`${request(1, 0, 1)} 07`);
  while (!disk.calls.includes('write 0+1')) await new Promise(setImmediate);
  const removed = serve.server.removeExport('a', { mode: 'hard' });
  await client.expectEnd();
  const target = { address: { path: serve.path }, exportName: 'a', user: undefined };
  await assert.rejects(openNbd(target), (error) => isDiskError(error));
  assert.ok(!disk.calls.includes('flush'));
  release();
  await removed;
  assert.deepEqual(disk.calls, ['write 0+1', 'flush']);
  bystander.send(request(0, 0, 1));
  await bystander.expect(`${simple()} 00`);
});

test('a flush that fails at the removal is told, and the export is gone', async () => {
  const disk = testDisk();
  await using serve = await serving({ exports: [{ name: 'a', device: disk.device }] });
  disk.fail('flush', ioError);
  await assert.rejects(serve.server.removeExport('a', { mode: 'safe' }), ioError);
  assert.deepEqual(serve.server.figures(), []);
});

test('nbdinfo sees exports come and go', requires('nbdinfo'), async () => {
  await using serve = await serving({ exports: [{ name: 'a', device: testDisk().device }] });
  const seen = async (): Promise<readonly string[]> => {
    const told = await runOk('nbdinfo', ['--list', '--json', serve.uri()]);
    const { exports } = JSON.parse(told) as {
      readonly exports: readonly { readonly 'export-name': string }[];
    };
    return exports.map((each) => each['export-name']);
  };
  serve.server.addExport({ name: 'b', device: testDisk().device });
  assert.deepEqual(await seen(), ['a', 'b']);
  await serve.server.removeExport('a', { mode: 'hard' });
  assert.deepEqual(await seen(), ['b']);
});
