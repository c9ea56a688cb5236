import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { SerialWriter } from '../../src/wire/serial-writer.ts';

/** A socket that takes a write when the test says so. */
function slowSocket() {
  const taken: string[] = [];
  let take: (() => void) | undefined;
  let ended = false;
  const socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      taken.push(chunk.toString());
      take = done;
    },
    writev: () => {
      throw new Error('several buffers at once would be copied');
    },
    final: (done) => {
      ended = true;
      done();
    },
  });
  const next = async (): Promise<void> => {
    const done = take;
    take = undefined;
    done?.();
    await turn();
  };
  return { socket: socket as unknown as Socket, taken, next, ended: () => ended };
}

test('buffers go one at a time, in order, and each is told of once', async () => {
  const { socket, taken, next, ended } = slowSocket();
  const writer = new SerialWriter(socket);
  const sent: string[] = [];
  for (const text of ['a', 'b', 'c']) writer.write(Buffer.from(text), () => sent.push(text));
  assert.deepEqual([taken, sent], [['a'], []]);
  await next();
  assert.deepEqual([taken, sent], [['a', 'b'], ['a']]);
  writer.end(() => sent.push('end'));
  writer.write(Buffer.from('too late'), () => sent.push('too late'));
  await next();
  assert.equal(ended(), false);
  await next();
  assert.deepEqual(
    [taken, sent],
    [
      ['a', 'b', 'c'],
      ['a', 'b', 'too late', 'c', 'end'],
    ],
  );
});

test('nothing is never written', async () => {
  const { socket, taken } = slowSocket();
  const writer = new SerialWriter(socket);
  let sent = false;
  writer.write(new Uint8Array(), () => {
    sent = true;
  });
  await turn();
  assert.deepEqual([taken, sent], [[], true]);
});

test('writes that a lost connection leaves behind are told of too', async () => {
  const { socket } = slowSocket();
  socket.on('error', () => undefined);
  const writer = new SerialWriter(socket);
  const sent: number[] = [];
  for (const index of [1, 2, 3]) writer.write(Buffer.from('x'), () => sent.push(index));
  socket.destroy();
  await turn();
  writer.write(Buffer.from('x'), () => sent.push(4));
  await turn();
  assert.deepEqual(sent.sort(), [1, 2, 3, 4]);
});
