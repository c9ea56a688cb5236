/** A client that sends and expects bytes, and knows nothing of the protocol. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** Bytes from hexadecimal digits, with blanks anywhere. */
export const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
/** The hexadecimal digits of a text. */
export const ascii = (text: string): string => Buffer.from(text).toString('hex');
/** A 32-bit number as hexadecimal digits. */
export const u32 = (value: number): string => value.toString(16).padStart(8, '0');

/** A connection. */
export interface RawClient extends AsyncDisposable {
  readonly socket: Socket;
  send(bytes: Buffer | string): void;
  /** The next `length` bytes. Rejects if the server closes before. */
  receive(length: number): Promise<Buffer>;
  /** The next bytes must be these. */
  expect(bytes: string): Promise<void>;
  /** The server must close, having sent nothing more. */
  expectEnd(): Promise<void>;
}

/** Connects to a unix socket or a port. */
export async function rawClient(target: string | number): Promise<RawClient> {
  const socket = typeof target === 'string' ? connect(target) : connect(target, '127.0.0.1');
  socket.on('error', () => undefined);
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
  return rawClientOn(socket);
}

/** A client on a socket that is connected. */
export function rawClientOn(socket: Socket): RawClient {
  socket.on('error', () => undefined);
  let chunks: Buffer[] = [];
  let waiting = 0;
  let ended = false;
  let wake: () => void = () => undefined;
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    waiting += chunk.length;
    wake();
  });
  socket.on('close', () => {
    ended = true;
    wake();
  });
  const more = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });
  const client: RawClient = {
    socket,
    send: (bytes) => {
      socket.write(typeof bytes === 'string' ? hex(bytes) : bytes);
    },
    receive: async (length) => {
      while (waiting < length && !ended) await more();
      const pending = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
      if (waiting < length) {
        throw new Error(`closed after ${waiting} of ${length} bytes: ${pending.toString('hex')}`);
      }
      chunks = [pending.subarray(length)];
      waiting -= length;
      return pending.subarray(0, length);
    },
    expect: async (bytes) => {
      const expected = hex(bytes);
      assert.equal((await client.receive(expected.length)).toString('hex'), expected.toString('hex'));
    },
    expectEnd: async () => {
      while (!ended) await more();
      assert.equal(Buffer.concat(chunks).toString('hex'), '');
    },
    [Symbol.asyncDispose]: async () => {
      socket.destroy();
    },
  };
  return client;
}
