import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { temporaryFolder } from '@strata/testkit';
import { receiveInPlace } from '../../src/wire/in-place.ts';

test('a socket that exists receives into buffers that it is given', async () => {
  await using folder = await temporaryFolder();
  const server = createServer({ pauseOnConnect: true });
  server.listen(folder.file('s'));
  await once(server, 'listening');
  const peer = connect(folder.file('s'));
  const [socket] = (await once(server, 'connection')) as [Socket];
  const got: string[] = [];
  let buffer = Buffer.alloc(0);
  const onRead = {
    buffer: () => {
      buffer = Buffer.alloc(4);
      return buffer;
    },
    callback: (length: number) => got.push(buffer.toString('latin1', 0, length)),
  };
  assert.equal(receiveInPlace(socket, onRead), true, 'this version of Node lets it');
  socket.resume();
  peer.end('abcdefghij');
  await once(socket, 'end');
  assert.deepEqual(got, ['abcd', 'efgh', 'ij']);
  socket.destroy();
  server.close();
});

test('a socket without a handle is left alone', async () => {
  const { Socket: NetSocket } = await import('node:net');
  const socket = new NetSocket();
  const onRead = {
    buffer: (): Uint8Array => {
      throw new Error('no buffer is needed');
    },
    callback: () => undefined,
  };
  assert.equal(receiveInPlace(socket, onRead), false);
});
