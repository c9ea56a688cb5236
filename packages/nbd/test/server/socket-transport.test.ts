import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { temporaryFolder } from '@strata/testkit';
import { socketTransport } from '../../src/server/socket-transport.ts';
import type { Transport } from '../../src/server/transport.ts';

/** A transport over a unix socket, and the peer's end of it. */
async function pair(inPlace: boolean, spaceLength: number) {
  const folder = await temporaryFolder();
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
  await new Promise<void>((resolve) => {
    server.listen(folder.file('socket'), resolve);
  });
  const peer = connect({ path: folder.file('socket'), allowHalfOpen: true });
  peer.on('error', () => undefined);
  const [accepted] = (await once(server, 'connection')) as [Socket];
  const events: string[] = [];
  const received: Buffer[] = [];
  let space = Buffer.alloc(0);
  let onReceived: () => void = () => undefined;
  const transport: Transport = socketTransport(
    accepted,
    {
      space: () => {
        space = Buffer.alloc(spaceLength);
        return space;
      },
      received: (length) => {
        received.push(Buffer.from(space.subarray(0, length)));
        onReceived();
      },
      ended: () => events.push('ended'),
      closed: () => events.push('closed'),
    },
    { inPlace },
  );
  return {
    accepted,
    transport,
    peer,
    events,
    bytes: () => Buffer.concat(received),
    onReceived: (listener: () => void) => {
      onReceived = listener;
    },
    [Symbol.asyncDispose]: async () => {
      peer.destroy();
      transport.destroy();
      server.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise(setImmediate);
};

test('this version of Node lets a socket receive in place', async () => {
  await using taken = await pair(true, 1000);
  await using kept = await pair(false, 1000);
  // The socket that was accepted is given up exactly when another one is made over its handle.
  assert.deepEqual([taken.accepted.destroyed, kept.accepted.destroyed], [true, false]);
});

for (const inPlace of [true, false]) {
  const how = inPlace ? 'in place' : 'by copying chunks';

  test(`bytes arrive where the listener wants them, ${how}`, async () => {
    await using ends = await pair(inPlace, 1000);
    const sent = Buffer.from(Uint8Array.from({ length: 100_000 }, (_, index) => index * 31));
    ends.peer.write(sent);
    await until(() => ends.bytes().length === sent.length);
    assert.deepEqual(ends.bytes(), sent);
  });

  test(`nothing is received while paused, and everything after resuming, ${how}`, async () => {
    await using ends = await pair(inPlace, 1000);
    ends.onReceived(() => ends.transport.pause());
    ends.peer.write(Buffer.alloc(10_000, 1));
    for (let count = 1; count <= 10; count++) {
      await until(() => ends.bytes().length === count * 1000);
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
      assert.equal(ends.bytes().length, count * 1000);
      ends.transport.resume();
    }
  });

  test(`written bytes reach the peer, and a callback tells when each buffer is free, ${how}`, async () => {
    await using ends = await pair(inPlace, 1000);
    let sent = 0;
    ends.transport.write(Buffer.from('one '), () => sent++);
    ends.transport.write(Buffer.from('two'), () => sent++);
    const chunks: Buffer[] = [];
    ends.peer.on('data', (chunk: Buffer) => chunks.push(chunk));
    await until(() => Buffer.concat(chunks).toString() === 'one two' && sent === 2);
  });

  test(`every write is called back once when the connection is lost, ${how}`, async () => {
    await using ends = await pair(inPlace, 1000);
    const calls = Array.from({ length: 5 }, () => 0);
    const count = (index: number) => () => {
      calls[index] = (calls[index] ?? 0) + 1;
    };
    ends.peer.pause();
    for (let index = 0; index < 3; index++) ends.transport.write(Buffer.alloc(4 * 1024 * 1024), count(index));
    ends.transport.destroy();
    ends.transport.write(Buffer.from('late'), count(3));
    await until(() => ends.events.includes('closed'));
    ends.transport.write(Buffer.from('later'), count(4));
    await until(() => calls.every((times) => times === 1));
  });

  test(`a peer that stops sending still receives, until the end, ${how}`, async () => {
    await using ends = await pair(inPlace, 1000);
    ends.peer.end('bye');
    await until(() => ends.events.includes('ended'));
    assert.equal(ends.bytes().toString(), 'bye');
    ends.transport.write(Buffer.from('answer'), () => undefined);
    ends.transport.end();
    const chunks: Buffer[] = [];
    ends.peer.on('data', (chunk: Buffer) => chunks.push(chunk));
    await until(() => ends.events.includes('closed'));
    await until(() => Buffer.concat(chunks).toString() === 'answer');
    assert.deepEqual(ends.events, ['ended', 'closed']);
  });
}
