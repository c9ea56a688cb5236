import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { DiskError, isDiskError } from '@strata/block';
import { type Negotiation, perform } from '../../src/client/negotiation.ts';
import { socketServer } from './socket-server.ts';

/** Takes messages of these lengths. */
function* take(...lengths: readonly number[]): Negotiation<string> {
  const messages: string[] = [];
  for (const length of lengths) messages.push(String(yield { take: length }));
  return messages.join('|');
}

test('messages have the lengths that were asked for, and what follows is left for whoever takes over', async () => {
  await using server = await socketServer((client) => client.write('abcdefghij'));
  const rest = await perform({ path: server.path }, take(1, 0, 3), (result, transport) => {
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
});

test('what a negotiation throws rejects, and the connection is gone', async () => {
  await using server = await socketServer((client) => client.write('abc'));
  const gone = server.next().then((client) => once(client, 'close'));
  function* refuse(): Negotiation<never> {
    yield { take: 3 };
    throw new DiskError('denied', 'no');
  }
  const attempt = perform({ path: server.path }, refuse(), () => assert.fail());
  await assert.rejects(attempt, (error) => isDiskError(error, 'denied'));
  await gone;
});

test('the end of the connection is thrown into the negotiation', async () => {
  await using server = await socketServer((client) => client.end('ab'));
  const attempt = perform({ path: server.path }, take(3), () => assert.fail());
  await assert.rejects(attempt, (error) => isDiskError(error, 'closed'));
});

test('a server that says nothing is given up at the deadline, or at the signal', async () => {
  await using server = await socketServer();
  const address = { path: server.path };
  await assert.rejects(
    perform(address, take(1), () => assert.fail(), { connectTimeoutMs: 20 }),
    (error) => isDiskError(error, 'io') && /within 0.02 s/.test(error.message),
  );
  const controller = new AbortController();
  const { signal } = controller;
  const seen = server.next().then(() => controller.abort(new Error('enough')));
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
  await seen;
});
