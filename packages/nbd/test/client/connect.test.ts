import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { DiskError, isDiskError } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { type ByteSink, connect } from '../../src/client/connect.ts';
import { socketServer } from './socket-server.ts';

/** Keeps what is received in targets of `room` bytes. */
function collector(room: number) {
  const target = Buffer.alloc(room);
  const pieces: Buffer[] = [];
  let end: (reason: DiskError) => void = () => undefined;
  const ended = new Promise<DiskError>((resolve) => {
    end = resolve;
  });
  const sink: ByteSink = {
    target: () => target,
    received: (count) => {
      pieces.push(Buffer.from(target.subarray(0, count)));
    },
    ended: (reason) => end(reason),
  };
  return { sink, pieces, ended };
}

test('bytes go out in order and come in where the sink wants them', async () => {
  await using server = await socketServer();
  const client = server.next();
  const { sink, pieces, ended } = collector(3);
  const transport = connect({ path: server.path }, sink);
  const socket = await client;
  const got = once(socket, 'data');
  const sent = new Promise<void>((resolve) => {
    transport.send([Buffer.from('one '), Buffer.from('two '), Buffer.from('three')], resolve);
  });
  await sent;
  assert.equal(String((await got)[0]), 'one two three');
  socket.end('abcdefgh');
  assert.ok(isDiskError(await ended, 'closed'));
  assert.equal(Buffer.concat(pieces).toString(), 'abcdefgh');
  assert.ok(pieces.every(({ length }) => length <= 3));
  await transport.end();
  transport.send([Buffer.from('late')]);
});

test('another sink takes over at the very next byte', async () => {
  await using server = await socketServer();
  const client = server.next();
  const first = collector(4);
  const second = collector(100);
  const transport = connect(
    { path: server.path },
    {
      ...first.sink,
      received: (count) => {
        first.sink.received(count);
        transport.sink = second.sink;
      },
    },
  );
  (await client).end('abcdefgh');
  await second.ended;
  assert.equal(Buffer.concat(first.pieces).toString(), 'abcd');
  assert.equal(Buffer.concat(second.pieces).toString(), 'efgh');
});

test('destroying tells the reason once, and not the end that follows', async () => {
  await using server = await socketServer();
  const reasons: DiskError[] = [];
  const transport = connect(
    { path: server.path },
    { ...collector(1).sink, ended: (reason) => reasons.push(reason) },
  );
  transport.destroy(new DiskError('aborted', 'enough'));
  transport.destroy(new DiskError('io', 'again'));
  await transport.end();
  assert.deepEqual(
    reasons.map(({ code }) => code),
    ['aborted'],
  );
});

test('what cannot be reached is told with QEMU’s words', async () => {
  await using folder = await temporaryFolder();
  const failure = async (address: Parameters<typeof connect>[0]): Promise<DiskError> => {
    const { sink, ended } = collector(1);
    connect(address, sink);
    return ended;
  };
  const missing = await failure({ path: folder.file('x') });
  assert.equal(missing.code, 'not-found');
  assert.equal(missing.message, `Failed to connect to '${folder.file('x')}': No such file or directory`);
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  const refused = await failure({ host: '127.0.0.1', port });
  assert.equal(refused.code, 'io');
  assert.equal(refused.message, `Failed to connect to '127.0.0.1:${port}': Connection refused`);
});

test('the path of a unix socket is not cut', () => {
  assert.throws(
    () => connect({ path: `/${'x'.repeat(107)}` }, collector(1).sink),
    (error) => isDiskError(error, 'invalid') && /less than 108 bytes/.test(error.message),
  );
});
