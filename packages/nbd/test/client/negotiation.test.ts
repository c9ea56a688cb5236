import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:net';
import { test } from 'node:test';
import { DiskError, isDiskError } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { type Negotiation, perform } from '../../src/client/negotiation.ts';

/** A server that sends `bytes` to each client and closes when the client does. */
async function sending(path: string, bytes: string): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(bytes);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return server;
}

/** Takes messages of these lengths. */
function* take(...lengths: readonly number[]): Negotiation<string> {
  const messages: string[] = [];
  for (const length of lengths) messages.push(String(yield { take: length }));
  return messages.join('|');
}

test('messages have the lengths that were asked for, and what follows is left for whoever takes over', async () => {
  await using folder = await temporaryFolder();
  const server = await sending(folder.file('s'), 'abcdefghij');
  const rest = await perform({ path: folder.file('s') }, take(1, 0, 3), (result, transport) => {
    assert.equal(result, 'a||bcd');
    return new Promise<string>((resolve) => {
      const target = Buffer.alloc(100);
      let filled = 0;
      transport.sink = {
        target: () => target.subarray(filled),
        received: (count) => {
          filled += count;
          if (filled === 6) resolve(target.toString('utf8', 0, 6));
        },
        ended: () => undefined,
      };
    }).finally(() => transport.end());
  });
  assert.equal(rest, 'efghij');
  server.close();
});

test('what a negotiation throws rejects, and the connection is gone', async () => {
  await using folder = await temporaryFolder();
  const server = await sending(folder.file('s'), 'abc');
  const gone = new Promise((resolve) => server.once('connection', (socket) => socket.once('close', resolve)));
  function* refuse(): Negotiation<never> {
    yield { take: 3 };
    throw new DiskError('denied', 'no');
  }
  const attempt = perform({ path: folder.file('s') }, refuse(), () => assert.fail());
  await assert.rejects(attempt, (error) => isDiskError(error, 'denied'));
  await gone;
  server.close();
});

test('the end of the connection is thrown into the negotiation', async () => {
  await using folder = await temporaryFolder();
  const server = createServer((socket) => socket.end('ab'));
  await new Promise<void>((resolve) => server.listen(folder.file('s'), resolve));
  const attempt = perform({ path: folder.file('s') }, take(3), () => assert.fail());
  await assert.rejects(attempt, (error) => isDiskError(error, 'closed'));
  server.close();
});

test('a server that says nothing is given up at the deadline, or at the signal', async () => {
  await using folder = await temporaryFolder();
  const server = await sending(folder.file('s'), '');
  const address = { path: folder.file('s') };
  await assert.rejects(
    perform(address, take(1), () => assert.fail(), { connectTimeoutMs: 20 }),
    (error) => isDiskError(error, 'io') && /within 0.02 s/.test(error.message),
  );
  const controller = new AbortController();
  const { signal } = controller;
  server.once('connection', () => controller.abort(new Error('enough')));
  const isAborted = (error: unknown): boolean =>
    isDiskError(error, 'aborted') && (error.cause as DiskError).message === 'enough';
  await assert.rejects(
    perform(address, take(1), () => assert.fail(), { signal }),
    isAborted,
  );
  await assert.rejects(
    perform(address, take(1), () => assert.fail(), { signal }),
    isAborted,
  );
  server.close();
});
