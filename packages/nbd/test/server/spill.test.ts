import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Spill } from '../../src/server/spill.ts';
import type { TransportListener } from '../../src/server/transport.ts';

/** A listener with so much room each time, and what it got. */
function listener(room: number, onReceived: () => void = () => undefined) {
  let space = Buffer.alloc(0);
  const got: string[] = [];
  const listens: TransportListener = {
    space: () => {
      space = Buffer.alloc(room);
      return space;
    },
    received: (length) => {
      got.push(space.toString('latin1', 0, length));
      onReceived();
    },
    ended: () => undefined,
    closed: () => undefined,
  };
  return { listens, got };
}

/** As a socket does: asks for a buffer, fills it, asks again. */
function feed(spill: Spill, text: string): void {
  for (let rest = Buffer.from(text, 'latin1'); rest.length > 0; ) {
    const length = rest.copy(spill.onRead.buffer());
    spill.onRead.callback(length);
    rest = rest.subarray(length);
  }
}

test('a listener that keeps up receives into its own buffers', () => {
  const { listens, got } = listener(4);
  const spill = new Spill(listens);
  feed(spill, 'abcdef');
  assert.deepEqual(got, ['abcd', 'ef']);
});

test('what comes in a pause waits for the end of it, and what comes next waits behind it', () => {
  const { listens, got } = listener(4);
  const spill = new Spill(listens);
  spill.pause();
  feed(spill, 'abcdef');
  feed(spill, 'gh');
  assert.deepEqual(got, []);
  spill.resume();
  feed(spill, 'ij');
  assert.equal(got.join(''), 'abcdefghij');
});

test('a listener that pauses again while it is given what has waited gets the rest later', () => {
  const { listens, got } = listener(2, () => spill.pause());
  const spill = new Spill(listens);
  spill.pause();
  feed(spill, 'abcde');
  for (const expected of ['ab', 'abcd', 'abcde']) {
    spill.resume();
    assert.equal(got.join(''), expected);
  }
});

test('a socket that is given up has nothing left, or the caller is told', async () => {
  const { Duplex } = await import('node:stream');
  const socket = new Duplex({ read: () => undefined }) as unknown as import('node:net').Socket;
  const { listens, got } = listener(8);
  const spill = new Spill(listens);
  spill.attach(socket);
  socket.emit('data', Buffer.from('abc'));
  assert.equal(spill.detach(socket), true);
  socket.emit('data', Buffer.from('def'));
  assert.deepEqual(got, ['abc']);
  spill.attach(socket);
  spill.pause();
  socket.emit('data', Buffer.from('ghi'));
  assert.equal(spill.detach(socket), false);
});
