import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { isDiskError, openFile, sourceWindow } from '@strata/block';
import { requiresLinux, temporaryFolder } from '@strata/testkit';

// Of cachestat.
const isLinux = requiresLinux(6, 5);
const KiB = 1024;

/** A file of bytes that differ everywhere, and a pair of connected sockets. */
async function fixture() {
  const folder = await temporaryFolder();
  const bytes = Buffer.alloc(256 * KiB);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32BE(at, at);
  await writeFile(folder.file('disk'), bytes);
  const source = await openFile(folder.file('disk'), { access: 'write' });
  const server = createServer();
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => void server.listen(folder.file('socket'), resolve));
  const peer = connect(folder.file('socket'));
  const socket = await accepted;
  const descriptor = (socket as unknown as { _handle: { fd: number } })._handle.fd;
  return {
    source,
    bytes,
    peer,
    descriptor,
    [Symbol.asyncDispose]: async () => {
      socket.destroy();
      peer.destroy();
      server.close();
      await source[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** What a peer receives until it has `length` bytes. */
async function received(peer: Socket, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of peer.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk as Buffer);
    if (Buffer.concat(chunks).length >= length) break;
  }
  return Buffer.concat(chunks);
}

test('bytes of the page cache get into a socket, as many as it takes', isLinux, async () => {
  await using made = await fixture();
  const send = made.source.tryDirect?.(4097, 100_000);
  assert.ok(send, 'this kernel tells what lies in the page cache');
  const count = send(made.descriptor, 4097, 100_000);
  assert.ok(count > 0 && count <= 100_000);
  assert.deepEqual(await received(made.peer, count), made.bytes.subarray(4097, 4097 + count));
});

test('a socket that is full takes nothing, and says so', isLinux, async () => {
  await using made = await fixture();
  made.peer.pause();
  let total = 0;
  for (let count = 1; count > 0; total += count) {
    count = made.source.tryDirect?.(0, 256 * KiB)?.(made.descriptor, 0, 256 * KiB) ?? 0;
  }
  assert.ok(total > 0);
});

test('what is not in the page cache is not sent: holes, and what lies past the end', isLinux, async () => {
  await using made = await fixture();
  assert.equal(made.source.tryDirect?.(250 * KiB, 7 * KiB), undefined);
  await made.source.truncate(1024 * KiB);
  assert.equal(made.source.tryDirect?.(250 * KiB, 7 * KiB), undefined);
  assert.equal(made.source.tryDirect?.(0, 0), undefined);
  assert.ok(made.source.tryDirect?.(0, 64 * KiB));
});

test('a window sends from where it begins', isLinux, async () => {
  await using made = await fixture();
  const window = sourceWindow(made.source, 10_000, 50_000);
  assert.equal(window.tryDirect?.(5, 100)?.(made.descriptor, 5, 100), 100);
  assert.deepEqual(await received(made.peer, 100), made.bytes.subarray(10_005, 10_105));
  assert.throws(() => window.tryDirect?.(49_999, 2), RangeError);
});

test('a closed file sends nothing, also to who asked before', isLinux, async () => {
  await using made = await fixture();
  const send = made.source.tryDirect?.(0, 100);
  await made.source[Symbol.asyncDispose]();
  assert.throws(
    () => send?.(made.descriptor, 0, 100),
    (error) => isDiskError(error, 'closed'),
  );
  assert.throws(
    () => made.source.tryDirect?.(0, 100),
    (error) => isDiskError(error, 'closed'),
  );
});
