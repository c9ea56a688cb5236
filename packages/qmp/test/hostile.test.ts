/** Clients that mean no good: each is answered or dropped, what it costs is bounded, and others are served as before. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { connectQmp } from '../src/client.ts';
import { command } from '../src/command.ts';
import { anything, text } from '../src/schema.ts';
import { type RawQmp, rawQmp, type Serving, serving } from './serving.ts';

/** The commands of the hostile clients' server. */
const rows = [
  command('echo', { value: anything }, ({ value }) => ({ value })),
  command('fill', { text }, ({ text: given }) => given.repeat(1000)),
];

async function greeted(path: string): Promise<RawQmp> {
  const peer = await rawQmp(path);
  await peer.line();
  return peer;
}

/** Somebody else is served, whatever happened before. */
async function assertServes({ path }: Serving): Promise<void> {
  await using client = await connectQmp({ path });
  assert.deepEqual(await client.execute('echo', { value: [1] }), { value: [1] });
}

/** The sentences of the refusals until the server hangs up. */
async function refusals(peer: RawQmp): Promise<readonly unknown[]> {
  const told: unknown[] = [];
  for (let line = await peer.line(); line !== undefined; line = await peer.line()) {
    told.push((line['error'] as { readonly desc: string }).desc);
  }
  return told;
}

test('nesting beyond the limit is refused, and the connection ends', async () => {
  await using ours = await serving(rows);
  for (const opening of ['[', '{"a":']) {
    await using peer = await greeted(ours.path);
    peer.send(opening.repeat(100_000));
    assert.deepEqual(await refusals(peer), ['JSON nesting depth limit exceeded']);
  }
  await assertServes(ours);
});

test('nesting within the limit comes back as it was', async () => {
  await using ours = await serving(rows);
  await using client = await connectQmp({ path: ours.path });
  let value: unknown = 1;
  for (let depth = 0; depth < 1000; depth++) value = [value];
  assert.deepEqual(await client.execute('echo', { value }), { value });
});

test('a string of 100 MB is refused after a few of them, and the connection ends', async () => {
  await using ours = await serving(rows);
  await using peer = await greeted(ours.path);
  const piece = 'x'.repeat(1024 * 1024);
  peer.send('{"execute":"');
  for (let megabyte = 0; megabyte < 100; megabyte++) peer.send(piece);
  assert.deepEqual(await refusals(peer), ['JSON token size limit exceeded']);
  await assertServes(ours);
});

test('a message of very many tokens is refused, and the connection ends', async () => {
  await using ours = await serving(rows);
  await using peer = await greeted(ours.path);
  peer.send(`[${'0,'.repeat(300_000)}`);
  assert.deepEqual(await refusals(peer), ['JSON token count limit exceeded']);
});

test('names that mean something to JavaScript are names like others', async () => {
  await using ours = await serving(rows);
  await using client = await connectQmp({ path: ours.path });
  const value = JSON.parse('{"__proto__":{"a":1},"constructor":2,"hasOwnProperty":3}') as unknown;
  const { value: back } = await client.execute<{ readonly value: object }>('echo', { value });
  assert.deepEqual(Object.entries(back), Object.entries(value as object));
  await using peer = await greeted(ours.path);
  peer.send('{"execute":"qmp_capabilities"}{"execute":"echo","arguments":{"__proto__":{"value":1}}}');
  peer.send(
    '{"execute":"toString"}{"execute":"__proto__"}{"execute":"echo","arguments":{"value":1,"__proto__":2}}',
  );
  peer.end();
  const told: unknown[] = [];
  for (let line = await peer.line(); line !== undefined; line = await peer.line()) told.push(line['error']);
  assert.deepEqual(told, [
    undefined,
    { class: 'GenericError', desc: "Parameter 'value' is missing" },
    { class: 'CommandNotFound', desc: 'The command toString has not been found' },
    { class: 'CommandNotFound', desc: 'The command __proto__ has not been found' },
    { class: 'GenericError', desc: "Parameter '__proto__' is unexpected" },
  ]);
});

test('half a message and then nothing costs nothing but the connection', async () => {
  await using ours = await serving(rows);
  for (const half of ['{"execute":"qmp_cap', '{', '"', '\\', '\u0000', '-', '1', 'tru']) {
    await using peer = await greeted(ours.path);
    peer.send(half);
    peer.end();
    while ((await peer.line()) !== undefined);
  }
  await assertServes(ours);
});

test('who hangs up while its command runs leaves the server as it was', async () => {
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let begin: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const slow = command('slow', {}, async () => {
    begin();
    await finished;
    return undefined;
  });
  await using ours = await serving([...rows, slow]);
  {
    await using peer = await greeted(ours.path);
    peer.send('{"execute":"qmp_capabilities"}{"execute":"slow"}');
    await peer.line();
    await begun;
  }
  const served = assertServes(ours);
  finish();
  await served;
});

test('a client that never reads is not read from, and dropped when events pile up', async () => {
  await using ours = await serving(rows);
  const socket = connect(ours.path).on('error', () => undefined);
  const gone = new Promise((resolve) => socket.once('close', resolve));
  socket.write('{"execute":"qmp_capabilities"}');
  const command = JSON.stringify({ execute: 'fill', arguments: { text: 'x'.repeat(1000) } });
  for (let count = 0; count < 1000; count++) socket.write(command);
  await assertServes(ours);
  // A megabyte of answers lies there, and no more: the rest of the commands waits in the client.
  await using listener = await connectQmp({ path: ours.path });
  const data = { text: 'y'.repeat(100_000) };
  while (ours.server.clients > 1) {
    ours.server.emit('NOISE', data);
    await listener.event('NOISE');
  }
  socket.resume();
  await gone;
});

test('there is room for so many clients, and the next one is hung up on', async () => {
  await using ours = await serving(rows);
  const peers = await Promise.all(Array.from({ length: 32 }, () => greeted(ours.path)));
  await using late = await rawQmp(ours.path);
  assert.equal(await late.line(), undefined);
  for (const peer of peers) await peer[Symbol.asyncDispose]();
});

test('a bug in a command is told to whom it concerns, and the server goes on', async () => {
  const ours = await serving([...rows, command('bug', {}, () => Promise.reject(new TypeError('oops')))]);
  {
    await using client = await connectQmp({ path: ours.path });
    await assert.rejects(client.execute('bug'), /this is a bug/);
    await assertServes(ours);
  }
  await assert.rejects(async () => await ours[Symbol.asyncDispose](), /oops/);
});
