/** What thousands of rude clients cost a server process: memory and descriptors, measured from outside. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { openNbd } from '@strata/nbd';
import { temporaryFolder } from '@strata/testkit';
import { imgServe } from '../img.ts';

/** `FLOOD_DISCONNECTS=10000` is the whole of it; in every run there is a share. */
const disconnects = Number(process.env['FLOOD_DISCONNECTS'] ?? 1000);
const atOnce = 50;
const MiB = 2 ** 20;
const linux = process.platform === 'linux' ? {} : { skip: 'measured through /proc' };

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
/** Client flags and GO for the default export. */
const hello = hex('00000003 49484156454f5054 00000007 00000006 00000000 0000');
const request = (command: number, offset: number, length: number): Buffer => {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
};

function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function residentMiB(pid: number): number {
  const [, kib] = /^VmRSS:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) / 1024;
}

async function dial(path: string): Promise<Socket> {
  const socket = connect(path);
  socket.on('error', () => undefined);
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
  return socket;
}

/** Waits until the server has let go of everything; the test's own time limit ends the waiting. */
async function settled(pid: number, most: number): Promise<void> {
  while (descriptors(pid) > most) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** A client that behaves is served. */
async function served(uri: string): Promise<void> {
  await using connection = await openNbd(uri);
  const bytes = Buffer.alloc(4096, 9);
  await connection.device?.write(bytes, 0);
  await connection.device?.flush();
  const found = Buffer.alloc(4096);
  await connection.source.read(found, 0);
  assert.ok(found.equals(bytes));
}

/** What a client has sent when it hangs up, and whether it waits for a first answer. */
const manners: readonly (readonly [Buffer, boolean])[] = [
  [Buffer.alloc(0), false],
  [hello.subarray(0, 3), false],
  [hello.subarray(0, 15), true],
  [hello, false],
  [Buffer.concat([hello, request(0, 0, 65_536)]), true],
  [Buffer.concat([hello, ...Array.from({ length: 16 }, () => request(0, 0, 4 * MiB))]), true],
  [Buffer.concat([hello, request(1, 0, MiB), Buffer.alloc(1000)]), true],
  [Buffer.concat([hello, request(1, 4096, 4096), Buffer.alloc(4096, 1), request(3, 0, 0)]), false],
  [Buffer.concat([hello, request(4, 0, 32 * MiB), request(6, 0, 32 * MiB)]), false],
];

test(`CVE-2017-10664, CVE-2013-7441: ${disconnects} clients that hang up leave no descriptor and no memory behind`, {
  ...linux,
  timeout: 600_000,
}, async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  writeFileSync(image, Buffer.alloc(4096, 1));
  truncateSync(image, 64 * MiB);
  await using server = await imgServe(folder.file('s'), ['-f', 'raw', image]);
  const pid = server.process.pid as number;
  const rude = async (index: number): Promise<void> => {
    const socket = await dial(folder.file('s'));
    const [bytes, waits] = manners[index % manners.length] as (typeof manners)[number];
    socket.write(bytes);
    if (waits) await Promise.race([once(socket, 'readable'), once(socket, 'close')]);
    socket.destroy();
  };
  const flood = async (count: number): Promise<void> => {
    for (let done = 0; done < count; done += atOnce) {
      await Promise.all(
        Array.from({ length: Math.min(atOnce, count - done) }, (_, index) => rude(done + index)),
      );
    }
  };
  await served(server.uri);
  await flood(200);
  await served(server.uri);
  const before = { files: descriptors(pid), memory: residentMiB(pid) };
  await flood(disconnects);
  await served(server.uri);
  await settled(pid, before.files);
  const grown = residentMiB(pid) - before.memory;
  assert.ok(grown < 128, `${Math.round(grown)} MiB more`);
  assert.equal(await server.stop(), 0);
  assert.equal(server.stderr(), '');
});

test('100 clients that ask for 32 MiB over and over and never read: memory is bounded, and others are served at once', {
  ...linux,
  timeout: 120_000,
}, async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.raw');
  writeFileSync(image, Buffer.alloc(64 * MiB, 7));
  await using server = await imgServe(folder.file('s'), ['-e', '0', '-f', 'raw', image]);
  const pid = server.process.pid as number;
  await served(server.uri);
  const before = { files: descriptors(pid), memory: residentMiB(pid) };
  const asks = Buffer.concat([hello, ...Array.from({ length: 1000 }, () => request(0, 0, 32 * MiB))]);
  const clients = await Promise.all(Array.from({ length: 100 }, () => dial(folder.file('s'))));
  for (const client of clients) {
    client.pause();
    client.write(asks);
  }
  for (let round = 0; round < 3; round++) await served(server.uri);
  const grown = residentMiB(pid) - before.memory;
  // 64 MiB of budget, 32 MiB of kept buffers, at most 1 MiB of replies and 1 MiB of allowance a client.
  assert.ok(grown < 360, `${Math.round(grown)} MiB more`);
  assert.ok(descriptors(pid) >= before.files + 98, `${descriptors(pid)} after ${before.files}`);
  for (const client of clients) client.destroy();
  await settled(pid, before.files);
  await served(server.uri);
  assert.equal(await server.stop(), 0);
});
