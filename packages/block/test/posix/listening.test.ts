import assert from 'node:assert/strict';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { type ErrorCode, isDiskError } from '@strata/block';
import { temporaryFolder } from '@strata/testkit';
import { listenOnPath } from '../../src/posix/listening.ts';

const greeting = 'hello';

interface Listening extends AsyncDisposable {
  close(): Promise<void>;
}

async function serve(path: string): Promise<Listening> {
  const server = createServer((socket) => void socket.on('error', () => undefined).end(greeting));
  const remove = await listenOnPath(server, path);
  const close = async (): Promise<void> => {
    await remove();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  };
  return { close, [Symbol.asyncDispose]: close };
}

const fails = (path: string, code: ErrorCode): Promise<void> =>
  assert.rejects(serve(path), (error) => isDiskError(error, code));

/** Connects, and is greeted by the server. */
async function expectAnswer(path: string): Promise<void> {
  let heard = '';
  for await (const text of connect(path).setEncoding('utf8')) heard += text;
  assert.equal(heard, greeting);
}

/** Leaves a socket at `path` that nobody listens on. */
async function deadSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(`${path}.live`, resolve);
  });
  renameSync(`${path}.live`, path);
  await new Promise((resolve) => {
    server.close(resolve);
  });
}

test("a socket is its owner's alone, and gone with everything around it after close", async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('socket');
  const server = await serve(path);
  assert.deepEqual(readdirSync(folder.path), ['socket']);
  assert.equal(lstatSync(path).mode & 0o777, 0o600);
  await expectAnswer(path);
  await server.close();
  assert.deepEqual(readdirSync(folder.path), []);
});

test('nobody else may enter the folder in which a socket is made', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('socket');
  const listening = serve(path);
  const seen = new Set<number>();
  let server: Listening | undefined;
  void listening.then((ready) => {
    server = ready;
  });
  while (server === undefined) {
    for (const name of readdirSync(folder.path)) {
      const found = lstatSync(folder.file(name), { throwIfNoEntry: false });
      if (found?.isDirectory()) seen.add(found.mode & 0o777);
      else if (found) assert.equal(found.mode & 0o777, 0o600);
    }
    await new Promise(setImmediate);
  }
  assert.deepEqual([...seen], [0o700]);
  await server.close();
});

test('a dead socket is replaced', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('socket');
  await deadSocket(path);
  await using _server = await serve(path);
  await expectAnswer(path);
  assert.deepEqual(readdirSync(folder.path), ['socket']);
});

test('a socket on which somebody listens is left alone', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('socket');
  await using _server = await serve(path);
  await fails(path, 'busy');
  await expectAnswer(path);
  assert.deepEqual(readdirSync(folder.path), ['socket']);
});

test('whatever is no socket is left alone', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('file');
  writeFileSync(path, 'precious');
  mkdirSync(folder.file('folder'));
  symlinkSync('nowhere', folder.file('link'));
  for (const name of ['file', 'folder', 'link']) await fails(folder.file(name), 'exists');
  assert.equal(readFileSync(path, 'utf8'), 'precious');
  assert.deepEqual(readdirSync(folder.path).sort(), ['file', 'folder', 'link']);
});

test('a path that is too long or in no folder is refused, and nothing is left behind', async () => {
  await using folder = await temporaryFolder();
  await fails(folder.file('x'.repeat(108)), 'limit');
  await fails(folder.file('missing/socket'), 'not-found');
  assert.deepEqual(readdirSync(folder.path), []);
});

test('only the own socket is removed, not what has taken its place', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('socket');
  const server = await serve(path);
  renameSync(path, folder.file('moved'));
  writeFileSync(path, 'precious');
  await server.close();
  assert.equal(readFileSync(path, 'utf8'), 'precious');
});

test('of servers that race for a dead socket one wins, and the others leave it alone', async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('socket');
  await deadSocket(path);
  const results = await Promise.allSettled(Array.from({ length: 5 }, () => serve(path)));
  const servers = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  assert.equal(servers.length, 1);
  await expectAnswer(path);
  for (const server of servers) await server.close();
});
