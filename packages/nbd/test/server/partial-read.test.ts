import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BlockSource, isDiskError } from '@strata/block';
import { openNbd } from '../../src/client/device.ts';
import type { RawClient } from './raw-client.ts';
import { greeting, option, reply, request, serving, simple, takeReplies } from './serving.ts';
import { ioError, testDisk } from './test-disk.ts';

const KiB = 1024;

/** A chunk: its type, whether it is the last, and what it tells of. */
interface Chunk {
  readonly type: number;
  readonly isLast: boolean;
  readonly offset: number | undefined;
  readonly bytes: Buffer;
}

/** The chunks of one reply. With extended headers each must be for the read of `readOffset`. */
async function chunks(client: RawClient, readOffset?: number): Promise<readonly Chunk[]> {
  const all: Chunk[] = [];
  const length = readOffset === undefined ? 20 : 32;
  for (;;) {
    const header = await client.receive(length);
    if (readOffset !== undefined) assert.equal(header.readBigUInt64BE(16), BigInt(readOffset));
    const body = await client.receive(header.readUInt32BE(length - 4));
    const type = header.readUInt16BE(6);
    const isLast = header.readUInt16BE(4) === 1;
    const at = type === 0x8002 ? body.length - 8 : type === 0x8001 ? undefined : 0;
    const offset = at === undefined ? undefined : Number(body.readBigUInt64BE(at));
    all.push({ type, isLast, offset, bytes: type === 1 ? body.subarray(8) : body });
    if (isLast) return all;
  }
}

/** 1 MiB of data that differs everywhere, with a hole from 64 to 96 KiB. */
function disk(slow = false) {
  const made = testDisk({ slow });
  for (let at = 0; at < made.bytes.length; at += 4) made.bytes.writeUInt32BE(at, at);
  made.bytes.fill(0, 64 * KiB, 96 * KiB);
  made.setKind(0, made.bytes.length, 'data');
  made.setKind(64 * KiB, 32 * KiB, 'hole');
  return made;
}

const spec = '"NBD_REPLY_TYPE_ERROR_OFFSET"';

for (const [start, length, bad] of [
  [0, 256 * KiB, 200 * KiB],
  [0, 256 * KiB, 200 * KiB + 512],
  [100 * KiB, 156 * KiB, 255 * KiB + 512],
  [100 * KiB + 3, 700, 100 * KiB + 512],
  [128 * KiB, 512 * KiB, 128 * KiB],
  [32 * KiB, 96 * KiB, 40 * KiB],
  [60 * KiB, 4 * KiB + 1, 60 * KiB],
] as const) {
  test(`${spec}: a read of ${start}+${length} over a bad sector at ${bad} gives what lies before it`, async () => {
    const { device, bytes, spoil } = disk();
    spoil(bad, 1);
    await using serve = await serving({ exports: [{ name: '', device }] });
    await using client = await serve.connected({ structured: true });
    client.send(request(0, start, length));
    let at = start;
    const got = await chunks(client);
    for (const chunk of got.slice(0, -1)) {
      assert.equal(chunk.offset, at);
      if (chunk.type === 1) assert.deepEqual(chunk.bytes, bytes.subarray(at, at + chunk.bytes.length));
      at += chunk.type === 1 ? chunk.bytes.length : chunk.bytes.readUInt32BE(8);
    }
    const last = got.at(-1);
    assert.deepEqual([last?.type, last?.offset], [0x8002, Math.max(start, bad - (bad % 512))]);
    assert.equal(last?.bytes.readUInt32BE(0), 5);
    assert.match(String(last?.bytes), /the disk is broken/);
    assert.equal(at, last?.offset, 'the chunks reach to the error');
    client.send(request(0, bad + 512, 4));
    assert.deepEqual((await chunks(client))[0]?.bytes, bytes.subarray(bad + 512, bad + 516));
  });
}

test('"NBD_CMD_FLAG_DF": there is one content chunk before the error, with its zeros written out', async () => {
  const { device, bytes, spoil } = disk();
  spoil(128 * KiB, 1);
  await using serve = await serving({ exports: [{ name: '', device }] });
  await using client = await serve.connected({ structured: true });
  client.send(request(0, 0, 256 * KiB, 4));
  const [content, error, ...more] = await chunks(client);
  assert.deepEqual(content?.bytes, bytes.subarray(0, 128 * KiB));
  assert.deepEqual([error?.type, error?.offset, more.length], [0x8002, 128 * KiB, 0]);
});

test('with extended headers the chunks before an error have the offset of the request', async () => {
  const { device, bytes, spoil } = disk();
  spoil(150 * KiB, 1);
  await using serve = await serving({ exports: [{ name: '', device }] });
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send(`00000003 ${option(11, '')}`);
  await client.expect(reply(11, 1, ''));
  client.send(option(7, '000000000000'));
  await takeReplies(client);
  const start = 100 * KiB;
  const number = (value: number): string => value.toString(16).padStart(16, '0');
  client.send(`21e41c71 0000 0000 00000000c0ffee00 ${number(start)} ${number(64 * KiB)}`);
  const [content, error] = await chunks(client, start);
  assert.deepEqual(content?.bytes, bytes.subarray(start, 150 * KiB));
  assert.deepEqual([error?.type, error?.offset], [0x8002, 150 * KiB]);
});

test('"NBD_CMD_READ": a simple reply with an error has no payload', async () => {
  const { device, spoil } = disk();
  spoil(128 * KiB, 1);
  await using serve = await serving({ exports: [{ name: '', device }] });
  await using client = await serve.connected();
  client.send(request(0, 0, 256 * KiB));
  await client.expect(simple(5));
  client.send(request(0, 128 * KiB + 512, 4));
  await client.expect(`${simple()} 00020200`);
});

test('a failure that does not come again is an error of the whole read', async () => {
  const { device } = disk();
  let failures = 1;
  const source: BlockSource = {
    size: device.size,
    read: (into, offset) => (failures-- > 0 ? Promise.reject(ioError) : device.read(into, offset)),
    tryRead: () => false,
    extentAt: (offset, limit) => device.extentAt(offset, limit),
    tryExtentAt: (offset, limit) => device.tryExtentAt(offset, limit),
    [Symbol.asyncDispose]: async () => undefined,
  };
  await using serve = await serving({ exports: [{ name: '', source }] });
  await using client = await serve.connected({ structured: true });
  client.send(request(0, 100 * KiB, 64 * KiB));
  assert.deepEqual(
    (await chunks(client)).map(({ type }) => type),
    [0x8001],
  );
});

test('a bad sector is found in some ten reads that fail, whatever the length', async () => {
  const { device, spoil, calls } = disk(true);
  spoil(1000 * KiB, 1);
  await using serve = await serving({ exports: [{ name: '', device }] });
  await using client = await serve.connected({ structured: true });
  client.send(request(0, 0, 1024 * KiB));
  const got = await chunks(client);
  assert.equal(got.at(-1)?.offset, 1000 * KiB);
  const failing = calls.filter((call) => {
    const [, at = 0, length = 0] = /^read (\d+)\+(\d+)$/.exec(call)?.map(Number) ?? [];
    return at <= 1000 * KiB && 1000 * KiB < at + length;
  });
  assert.ok(failing.length <= 6, failing.join(', '));
});

test('our client says at which byte a read failed', async () => {
  const { device, spoil } = disk();
  spoil(200 * KiB, 1);
  await using serve = await serving({ exports: [{ name: '', device }] });
  await using client = await openNbd(serve.uri());
  await assert.rejects(client.source.read(Buffer.alloc(256 * KiB), 0), (error) => {
    assert.ok(isDiskError(error, 'io'));
    assert.equal(error.context.offset, 200 * KiB);
    assert.equal(
      error.message,
      `Input/output error at byte ${200 * KiB} (server reported: the disk is broken)`,
    );
    return true;
  });
});
