import assert from 'node:assert/strict';
import { lstatSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { DiskError } from '@strata/block';
import { connectQmp } from '../src/client.ts';
import { command } from '../src/command.ts';
import { QmpError } from '../src/qmp-error.ts';
import { text } from '../src/schema.ts';
import { listenQmp } from '../src/server.ts';
import { rawQmp, serving, version } from './serving.ts';

test("the socket is its owner's alone, and gone after the end", async () => {
  const ours = await serving();
  assert.equal(lstatSync(ours.path).mode & 0o777, 0o600);
  await ours.server[Symbol.asyncDispose]();
  assert.deepEqual(readdirSync(ours.folder.path), []);
  await ours[Symbol.asyncDispose]();
});

test('an event comes before the reply of the command that caused it, and to all who have negotiated', async () => {
  const shout = command('shout', {}, () => {
    ours.server.emit('SHOUTED', { loud: true });
    return undefined;
  });
  await using ours = await serving([shout]);
  await using giver = await rawQmp(ours.path);
  await using silent = await rawQmp(ours.path);
  await using listener = await connectQmp({ path: ours.path });
  giver.send('{"execute":"qmp_capabilities"}{"execute":"shout","id":1}');
  await giver.line();
  assert.deepEqual(await giver.line(), { return: {} });
  const { timestamp, ...event } = (await giver.line()) ?? {};
  assert.deepEqual(event, { event: 'SHOUTED', data: { loud: true } });
  const { seconds, microseconds } = timestamp as { readonly seconds: number; readonly microseconds: number };
  const age = Date.now() / 1000 - (seconds + microseconds / 1e6);
  assert.ok(Number.isInteger(seconds) && Number.isInteger(microseconds) && age > -1 && age < 60, `${age} s`);
  assert.deepEqual(await giver.line(), { id: 1, return: {} });
  assert.deepEqual((await listener.event('SHOUTED')).data, { loud: true });
  silent.send('{"execute":"nope"}');
  await silent.line();
  assert.match(JSON.stringify(await silent.line()), /Expecting capabilities negotiation/);
});

test('commands of all clients run one after the other, in the order in which they came', async () => {
  const order: string[] = [];
  const note = command('note', { text }, async ({ text: given }) => {
    order.push(`${given} begins`);
    await new Promise(setImmediate);
    order.push(`${given} ends`);
    return undefined;
  });
  await using ours = await serving([note]);
  await using one = await connectQmp({ path: ours.path });
  await using two = await connectQmp({ path: ours.path });
  await Promise.all(
    [one, two, one, two].map((client, index) => client.execute('note', { text: String(index) })),
  );
  for (let index = 0; index < order.length; index += 2) {
    const [begun = '', ended] = order.slice(index);
    assert.equal(ended, begun.replace('begins', 'ends'));
  }
  assert.equal(order.length, 8);
});

test('refusals keep their class, and errors of disks become ordinary ones', async () => {
  await using ours = await serving([
    command('gone', {}, () => Promise.reject(new QmpError('DeviceNotFound', "Device 'x' not found"))),
    command('full', {}, () => Promise.reject(new DiskError('no-space', 'the disk is full'))),
  ]);
  await using client = await connectQmp({ path: ours.path });
  const refused = async (name: string): Promise<readonly unknown[]> => {
    const error = await client.execute(name).catch((reason: unknown) => reason);
    assert.ok(error instanceof QmpError);
    return [error.kind, error.message];
  };
  assert.deepEqual(await refused('gone'), ['DeviceNotFound', "Device 'x' not found"]);
  assert.deepEqual(await refused('full'), ['GenericError', 'the disk is full']);
});

test('a server that ends sends the reply of the command that ends it', async () => {
  let closed: PromiseLike<void> | undefined;
  const ours = await serving([
    command('quit', {}, () => {
      closed = ours.server[Symbol.asyncDispose]();
      return undefined;
    }),
  ]);
  await using client = await connectQmp({ path: ours.path });
  assert.deepEqual(await client.execute('quit'), {});
  const rest: unknown[] = [];
  for await (const event of client.events()) rest.push(event);
  assert.deepEqual(rest, []);
  await closed;
  await ours[Symbol.asyncDispose]();
});

test('two commands of one name are a bug, and a path that is taken is an error', async () => {
  const row = command('x', {}, () => undefined);
  const twice = listenQmp({ path: '/nowhere', version, commands: [row, row] });
  await assert.rejects(twice, RangeError);
  await using ours = await serving();
  await assert.rejects(listenQmp({ path: ours.path, version, commands: [] }), { code: 'busy' });
});

test('a command that never ends does not keep the server from its end', async () => {
  let begin: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const stuck = command('stuck', {}, () => {
    begin();
    return new Promise<undefined>(() => undefined);
  });
  const ours = await serving([stuck]);
  await using client = await connectQmp({ path: ours.path });
  const reply = client.execute('stuck');
  await begun;
  await Promise.all([ours[Symbol.asyncDispose](), assert.rejects(reply, { code: 'closed' })]);
});
