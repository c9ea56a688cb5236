import assert from 'node:assert/strict';
import { createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { DiskError, isDiskError } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { type ByteSink, connect } from '../../src/client/connect.ts';

/** A server on a unix socket, and the next client that comes. */
async function listening(path: string): Promise<{ server: Server; client: Promise<Socket> }> {
  const server = createServer();
  const client = new Promise<Socket>((resolve) => {
    server.once('connection', (socket) => {
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { server, client };
}

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
  await using folder = await temporaryFolder();
  const { server, client } = await listening(folder.file('s'));
  const { sink, pieces, ended } = collector(3);
  const transport = connect({ path: folder.file('s') }, sink);
  const socket = await client;
  const sent = new Promise<void>((resolve) => {
    transport.send([Buffer.from('one '), Buffer.from('two '), Buffer.from('three')], resolve);
  });
  await sent;
  const got = await new Promise<string>((resolve) => socket.once('data', (bytes) => resolve(String(bytes))));
  assert.equal(got, 'one two three');
  socket.end('abcdefgh');
  assert.ok(isDiskError(await ended, 'closed'));
  assert.equal(Buffer.concat(pieces).toString(), 'abcdefgh');
  assert.ok(pieces.every(({ length }) => length <= 3));
  await transport.end();
  transport.send([Buffer.from('late')]);
  server.close();
});

test('another sink takes over at the very next byte', async () => {
  await using folder = await temporaryFolder();
  const { server, client } = await listening(folder.file('s'));
  const first = collector(4);
  const second = collector(100);
  const transport = connect(
    { path: folder.file('s') },
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
  server.close();
});

test('destroying tells the reason once, and not the end that follows', async () => {
  await using folder = await temporaryFolder();
  const { server } = await listening(folder.file('s'));
  const reasons: DiskError[] = [];
  const transport = connect(
    { path: folder.file('s') },
    { ...collector(1).sink, ended: (reason) => reasons.push(reason) },
  );
  transport.destroy(new DiskError('aborted', 'enough'));
  transport.destroy(new DiskError('io', 'again'));
  await transport.end();
  assert.deepEqual(
    reasons.map(({ code }) => code),
    ['aborted'],
  );
  server.close();
});

test('what cannot be reached is told with QEMU’s words', async () => {
  await using folder = await temporaryFolder();
  const { server } = await listening(folder.file('s'));
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
  server.close();
});

test('the path of a unix socket is not cut', () => {
  assert.throws(
    () => connect({ path: `/${'x'.repeat(107)}` }, collector(1).sink),
    (error) => isDiskError(error, 'invalid') && /less than 108 bytes/.test(error.message),
  );
});
