import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { type BlockDevice, checkedDevice, openFile } from '@strata/block';
import { randomFrom, requiresLinux, temporaryFolder } from '@strata/testkit';
import { openNbd } from '../../src/client/device.ts';
import { u32 } from './raw-client.ts';
import { request, serving, simple } from './serving.ts';

const KiB = 1024;
const size = 8 * 1024 * KiB;
// Of cachestat.
const isLinux = requiresLinux(6, 5);

/** A file in the page cache, as a disk that counts what the kernel sends of it. */
async function cachedFile() {
  const folder = await temporaryFolder();
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 4) bytes.writeUInt32BE(at, at);
  await writeFile(folder.file('disk'), bytes);
  const file = await openFile(folder.file('disk'), { access: 'write' });
  const counted = { sent: 0, asked: 0, failing: false };
  const device: BlockDevice = {
    size,
    caps: file.caps,
    read: (into, offset) => {
      counted.asked++;
      return counted.failing ? Promise.reject(new Error('gone')) : file.read(into, offset);
    },
    tryRead: (into, offset) => {
      counted.asked++;
      return !counted.failing && file.tryRead(into, offset);
    },
    extentAt: (offset, limit) => file.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => file.tryExtentAt(offset, limit),
    tryDirect: (offset, length) => {
      const send = file.tryDirect?.(offset, length);
      return (
        send &&
        ((socket, from, most) => {
          counted.asked++;
          const count = send(socket, from, most);
          counted.sent += count;
          return count;
        })
      );
    },
    write: (from, offset) => file.write(from, offset),
    zero: (offset, length, how) => file.zero(offset, length, how),
    discard: (offset, length) => file.discard(offset, length),
    flush: () => file.flush(),
    [Symbol.asyncDispose]: async () => undefined,
  };
  return {
    bytes,
    counted,
    device: checkedDevice(device),
    [Symbol.asyncDispose]: async () => {
      await file[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

test(
  'long reads of a file come out of the page cache, byte for byte, whatever else is under way',
  isLinux,
  async () => {
    await using disk = await cachedFile();
    await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
    await using client = await openNbd(serve.uri());
    const random = randomFrom(7);
    // The first MiB is written meanwhile, with what stands there.
    await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        const length = 1 + random.upTo(index % 3 === 0 ? 1024 * KiB : 100 * KiB);
        const at = random.upTo(size - length);
        if (index % 10 === 9) {
          const within = random.upTo(1024 * KiB - 4096);
          await client.device?.write(disk.bytes.subarray(within, within + 4096), within);
        }
        const into = Buffer.alloc(length);
        await client.source.read(into, at);
        assert.ok(into.equals(disk.bytes.subarray(at, at + length)), `${at}+${length}`);
      }),
    );
    assert.ok(disk.counted.sent > 0);
  },
);

test(
  'a client that takes its answers late gets all of them, and in between nothing else',
  isLinux,
  async () => {
    await using disk = await cachedFile();
    await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
    await using client = await serve.connected();
    client.socket.pause();
    const reads = [2048 * KiB, 4, 64 * KiB, 700 * KiB, 8, 128 * KiB];
    client.send(reads.map((length, index) => request(0, index * 4096, length)).join(''));
    while (disk.counted.asked === 0) await new Promise(setImmediate);
    client.socket.resume();
    // Replies may come in any order, and those of one cookie are told apart by their length alone: so one after the other.
    const total = reads.reduce((sum, length) => sum + 16 + length, 0);
    const stream = await client.receive(total);
    const expected = new Map(reads.map((length, index) => [index, length]));
    for (let at = 0; at < stream.length; ) {
      assert.equal(stream.toString('hex', at, at + 16), simple().replaceAll(' ', ''));
      const first = stream.readUInt32BE(at + 16);
      const index = first / 4096;
      const length = expected.get(index) ?? 0;
      expected.delete(index);
      const got = stream.subarray(at + 16, at + 16 + length);
      assert.ok(got.equals(disk.bytes.subarray(first, first + length)), u32(first));
      at += 16 + length;
    }
    assert.equal(expected.size, 0);
  },
);

test(
  'a disk that fails when half of a reply is out costs the connection, and not the server',
  isLinux,
  async (context) => {
    await using disk = await cachedFile();
    await using serve = await serving({
      exports: [{ name: '', device: disk.device }],
      onError: (error) => assert.match(String(error), /gone/),
    });
    await using client = await serve.connected();
    client.socket.pause();
    client.send(request(0, 0, 4096 * KiB));
    while (disk.counted.asked === 0) await new Promise(setImmediate);
    if (disk.counted.sent === 0) return context.skip('the file was not in the page cache');
    disk.counted.failing = true;
    client.socket.resume();
    await assert.rejects(client.receive(16 + 4096 * KiB), /closed after/);
    disk.counted.failing = false;
    await using next = await serve.connected();
    next.send(request(0, 8, 4));
    await next.expect(`${simple()} 00000008`);
  },
);

test('a client that hangs up while it is sent bytes of a file leaves nothing behind', isLinux, async () => {
  await using disk = await cachedFile();
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  for (let round = 0; round < 20; round++) {
    await using client = await serve.connected();
    client.socket.pause();
    client.send(request(0, 0, 2048 * KiB).repeat(8));
    const before = disk.counted.asked;
    while (disk.counted.asked === before) await new Promise(setImmediate);
    client.socket.destroy();
  }
  while (serve.server.connections > 0) await new Promise(setImmediate);
  await using next = await serve.connected();
  next.send(request(0, 8, 4));
  await next.expect(`${simple()} 00000008`);
});
