import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BlockSource } from '@strata/block';
import { BufferPool } from '../../src/server/buffer-pool.ts';
import { Outgoing } from '../../src/server/outgoing.ts';
import type { Transport } from '../../src/server/transport.ts';

const KiB = 1024;
const turn = () => new Promise(setImmediate);

/** A socket with so much room, whose peer takes what `take` says; and a disk whose every byte is its place. */
function bench(room: number) {
  const bytes = Buffer.from(Array.from({ length: 1024 * KiB }, (_, at) => at % 251));
  const socket = {
    taken: [] as Buffer[],
    queue: [] as { bytes: Buffer; sent: () => void }[],
    destroyed: false,
  };
  let free = room;
  const put = (part: Buffer): void => {
    socket.taken.push(Buffer.from(part));
    free -= part.length;
  };
  const drain = (): void => {
    for (let first = socket.queue[0]; first && free >= first.bytes.length; first = socket.queue[0]) {
      socket.queue.shift();
      put(first.bytes);
      process.nextTick(first.sent);
    }
  };
  const transport: Pick<Transport, 'write' | 'descriptor' | 'isDrained' | 'destroy'> = {
    descriptor: 5,
    get isDrained() {
      return socket.queue.length === 0;
    },
    write: (part, sent) => {
      socket.queue.push({ bytes: part, sent });
      drain();
    },
    destroy: () => {
      socket.destroyed = true;
    },
  };
  const disk = { direct: 0, readable: true, cached: true };
  const source: BlockSource = {
    size: bytes.length,
    tryRead: (into, offset) => {
      if (disk.cached && disk.readable) into.set(bytes.subarray(offset, offset + into.length));
      return disk.cached && disk.readable;
    },
    read: async (into, offset) => {
      if (!disk.readable) throw new Error('bad sector');
      into.set(bytes.subarray(offset, offset + into.length));
    },
    tryExtentAt: () => undefined,
    extentAt: () => Promise.reject(new Error('unasked')),
    tryDirect: () =>
      disk.cached
        ? (descriptor, offset, length) => {
            assert.equal(descriptor, 5);
            const count = Math.min(length, free);
            put(bytes.subarray(offset, offset + count));
            disk.direct += count;
            return count;
          }
        : undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
  const outgoing = new Outgoing(transport as Transport, new BufferPool(1024 * KiB), () => undefined);
  const told: string[] = [];
  return {
    outgoing,
    socket,
    disk,
    bytes,
    told,
    write: (name: string, length: number) =>
      outgoing.write(Buffer.alloc(length, name), () => told.push(`${name} sent`)),
    direct: (name: string, offset: number, length: number) =>
      outgoing.direct({
        head: Buffer.from(name),
        source,
        offset,
        length,
        done: (error) =>
          told.push(error === undefined ? `${name} done` : `${name}: ${(error as Error).message}`),
      }),
    /** The peer takes so much. */
    take: async (length: number) => {
      free += length;
      drain();
      await turn();
    },
    stream: () => Buffer.concat(socket.taken),
  };
}

test('a socket with room takes a reply at once, head and bytes', () => {
  const made = bench(1024 * KiB);
  made.direct('h', 1000, 300 * KiB);
  assert.deepEqual(made.told, ['h done']);
  assert.deepEqual(
    made.stream(),
    Buffer.concat([Buffer.from('h'), made.bytes.subarray(1000, 1000 + 300 * KiB)]),
  );
  assert.equal(made.disk.direct, 300 * KiB);
  assert.equal(made.outgoing.directBytes, 0);
});

test('a socket without room is paced by pieces, and what comes later waits for its turn', async () => {
  const made = bench(100 * KiB);
  made.write('a', 10);
  made.direct('b', 0, 500 * KiB);
  made.write('c', 20);
  made.direct('d', 77, 200 * KiB);
  assert.equal(made.outgoing.directBytes < 700 * KiB, true);
  for (let round = 0; round < 40; round++) await made.take(100 * KiB);
  assert.deepEqual(made.told, ['a sent', 'b done', 'c sent', 'd done']);
  const expected = Buffer.concat([
    Buffer.alloc(10, 'a'),
    Buffer.from('b'),
    made.bytes.subarray(0, 500 * KiB),
    Buffer.alloc(20, 'c'),
    Buffer.from('d'),
    made.bytes.subarray(77, 77 + 200 * KiB),
  ]);
  assert.ok(made.stream().equals(expected));
  assert.ok(made.disk.direct > 0 && made.disk.direct < 700 * KiB);
  assert.equal(made.outgoing.directBytes, 0);
});

test('bytes that have left the page cache are read as usual', async () => {
  const made = bench(1024 * KiB);
  made.disk.cached = false;
  made.direct('h', 3, 200 * KiB);
  for (let round = 0; round < 10; round++) await turn();
  assert.deepEqual(made.told, ['h done']);
  assert.ok(made.stream().equals(Buffer.concat([Buffer.from('h'), made.bytes.subarray(3, 3 + 200 * KiB)])));
  assert.equal(made.disk.direct, 0);
});

test('"NBD_CMD_READ": an error after the head of a reply ends the connection', async () => {
  const made = bench(100 * KiB);
  made.direct('h', 0, 500 * KiB);
  made.write('c', 20);
  made.disk.readable = false;
  for (let round = 0; round < 10; round++) await made.take(100 * KiB);
  assert.equal(made.socket.destroyed, true);
  assert.equal(made.told[0], 'h: bad sector');
  assert.equal(made.outgoing.directBytes, 0);
});

test('when the connection is gone everybody who waits is told', async () => {
  const made = bench(0);
  made.direct('a', 0, 100 * KiB);
  made.write('b', 10);
  made.direct('c', 0, 100 * KiB);
  made.outgoing.close();
  assert.deepEqual(made.told, ['b sent', 'c done']);
  await made.take(1024 * KiB);
  for (let round = 0; round < 4; round++) await turn();
  assert.deepEqual(made.told, ['b sent', 'c done', 'a done']);
  assert.equal(made.outgoing.directBytes, 0);
});
