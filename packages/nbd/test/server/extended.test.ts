/** Extended headers, byte by byte. Spec: proto.md of the branch extension-ext-header */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ascii, type RawClient, u32 } from './raw-client.ts';
import { greeting, option, reply, type Serving, serving, takeReplies } from './serving.ts';
import { type TestDisk, testDisk } from './test-disk.ts';

const cookie = '00000000c0ffee00';
const hex = (value: number, bytes: number): string => value.toString(16).padStart(2 * bytes, '0');
/** An extended request. */
const ask = (command: number, offset: number, length: number, flags = 0): string =>
  `21e41c71 ${hex(flags, 2)} ${hex(command, 2)} ${cookie} ${hex(offset, 8)} ${hex(length, 8)}`;
/** An extended chunk in reply to a request for `offset`. */
const told = (type: number, offset: number, payload = '', flags = 1): string => {
  const digits = payload.replace(/\s/g, '');
  return `6e8a278c ${hex(flags, 2)} ${hex(type, 2)} ${cookie} ${hex(offset, 8)} ${hex(digits.length / 2, 8)} ${digits}`;
};
const refused = (errno: number, offset: number, text: string): string =>
  told(0x8001, offset, u32(errno) + hex(text.length, 2) + ascii(text));

const payloadLength = 32;
const names = ['base:allocation', 'qemu:allocation-depth'];
const query = (...contexts: readonly string[]): string =>
  u32(0) + u32(contexts.length) + contexts.map((name) => u32(name.length) + ascii(name)).join('');

/** A client with extended headers, and the flags that GO told it. */
async function extended(
  serve: Serving,
  contexts: readonly string[] = names,
): Promise<{ client: RawClient; flags: number }> {
  const client = await serve.connect();
  await client.expect(greeting);
  client.send(`00000003 ${option(11, '')}`);
  await client.expect(reply(11, 1, ''));
  if (contexts.length > 0) {
    client.send(option(10, query(...contexts)));
    await takeReplies(client);
  }
  client.send(option(7, `${u32(0)} 0000`));
  let flags = 0;
  for (;;) {
    const header = await client.receive(20);
    const data = await client.receive(header.readUInt32BE(16));
    if (header.readUInt32BE(12) === 1) return { client, flags };
    if (data.readUInt16BE(0) === 0) flags = data.readUInt16BE(10);
  }
}

const start = (disk: TestDisk = testDisk()): Promise<Serving> =>
  serving({ exports: [{ name: '', device: disk.device }] });

test('"NBD_OPT_EXTENDED_HEADERS": a second one is refused, and structured replies behind it too', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send(`00000003 ${option(8, '')} ${option(11, '')} ${option(11, '')} ${option(8, '')}`);
  assert.deepEqual(await takeReplies(client), [1]);
  assert.deepEqual(await takeReplies(client), [1]);
  assert.deepEqual(await takeReplies(client), [0x8000_0003]);
  assert.deepEqual(await takeReplies(client), [0x8000_000a]);
});

test('"NBD_OPT_EXTENDED_HEADERS": EXPORT_NAME after it ends the connection', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send(`00000003 ${option(11, '')} ${option(1, '')}`);
  await client.expect(reply(11, 1, ''));
  await client.expectEnd();
});

test('"Transmission flags": DF comes with extended headers, BLOCK_STATUS_PAYLOAD with contexts', async () => {
  await using serve = await start();
  const some = await extended(serve);
  const none = await extended(serve, []);
  assert.deepEqual([some.flags & 0x1080, none.flags & 0x1080], [0x1080, 0x80]);
});

test('"Extended reply chunk message": every reply is one, with the offset of its request', async () => {
  const disk = testDisk();
  await using serve = await start(disk);
  const { client } = await extended(serve);
  client.send(`${ask(1, 4096, 3, payloadLength)} 616263`);
  await client.expect(told(0, 4096));
  client.send(ask(0, 4096, 3));
  await client.expect(told(1, 4096, `${hex(4096, 8)} 616263`));
  client.send(ask(0, 65536, 4096));
  await client.expect(told(2, 65536, `${hex(65536, 8)} ${u32(4096)}`));
  for (const [command, offset, length] of [
    [3, 0, 0],
    [4, 8192, 4096],
    [0, 7, 0],
  ] as const) {
    client.send(ask(command, offset, length));
    await client.expect(told(0, offset));
  }
  client.send(ask(99, 5, 0));
  await client.expect(refused(22, 5, 'unknown request 99'));
  assert.equal(disk.bytes.toString('latin1', 4096, 4099), 'abc');
});

test('"Extended reply chunk message": an offset of 64 bits comes back as it was', async () => {
  await using serve = await start();
  const { client } = await extended(serve);
  client.send(`21e41c71 0000 0000 ${cookie} fffffffffffffffd 0000000000000001`);
  const header = await client.receive(32);
  assert.equal(header.toString('hex', 16, 24), 'fffffffffffffffd');
});

test('"NBD_REPLY_TYPE_BLOCK_STATUS_EXT": lengths and status of 64 bits, a chunk a context', async () => {
  const disk = testDisk({ size: 1024 * 1024 });
  disk.setKind(0, 65536, 'data');
  await using serve = await start(disk);
  const { client } = await extended(serve);
  client.send(ask(7, 0, 1024 * 1024));
  const runs = (id: number, first: number, rest: number): string =>
    `${u32(id)} ${u32(2)} ${hex(65536, 8)} ${hex(first, 8)} ${hex(1024 * 1024 - 65536, 8)} ${hex(rest, 8)}`;
  await client.expect(told(6, 0, runs(0, 0, 3), 0) + told(6, 0, runs(1, 1, 0)));
});

test('"NBD_CMD_BLOCK_STATUS": a payload chooses contexts; what it must not hold is EINVAL', async () => {
  await using serve = await start();
  const { client } = await extended(serve);
  const chosen = (length: number, ...ids: readonly number[]): string =>
    `${ask(7, 0, 8 + 4 * ids.length, payloadLength)} ${hex(length, 8)} ${ids.map(u32).join('')}`;
  client.send(chosen(4096, 1));
  await client.expect(told(6, 0, `${u32(1)} ${u32(1)} ${hex(4096, 8)} ${hex(0, 8)}`));
  const unknown = refused(22, 0, 'unknown or repeated metadata contexts');
  client.send(chosen(4096, 5) + chosen(4096, 1, 1));
  await client.expect(unknown + unknown);
  client.send(chosen(4096, 0, 1, 5));
  await client.expect(refused(22, 0, '20 bytes are no list of metadata contexts'));
  client.send(chosen(4096));
  await client.expect(refused(22, 0, '8 bytes are no list of metadata contexts'));
  client.send(chosen(2 ** 40, 1) + ask(3, 0, 0));
  const header = await client.receive(32);
  assert.equal(header.readUInt16BE(6), 0x8002);
  await client.receive(header.readUInt32BE(28));
  await client.expect(told(0, 0));
});

test('"Request message": a payload that a command does not take is passed over and answered EINVAL', async () => {
  await using serve = await start();
  const { client } = await extended(serve, []);
  client.send(`${ask(0, 0, 4, payloadLength)} deadbeef ${ask(7, 0, 12, payloadLength)} ${'00'.repeat(12)}`);
  await client.expect(
    refused(22, 0, 'request 0 takes no payload') + refused(22, 0, 'request 7 takes no payload'),
  );
  client.send(`${ask(2 ** 16 - 1, 0, 3, payloadLength)} 010203 ${ask(3, 0, 0)}`);
  await client.expect(refused(22, 0, 'request 65535 takes no payload') + told(0, 0));
});

test('"Request message": WRITE without PAYLOAD_LEN has no payload and is EINVAL', async () => {
  await using serve = await start();
  const { client } = await extended(serve);
  client.send(ask(1, 0, 4) + ask(3, 0, 0));
  await client.expect(refused(22, 0, 'WRITE needs PAYLOAD_LEN') + told(0, 0));
});

test('"Request message": a payload above the maximum ends the connection', async () => {
  await using serve = await start();
  const { client } = await extended(serve);
  client.send(ask(1, 0, 32 * 1024 * 1024 + 1, payloadLength));
  await client.expectEnd();
});

test('"Request message": a compact request ends the connection', async () => {
  await using serve = await start();
  const { client } = await extended(serve);
  client.send(`25609513 0000 0000 ${cookie} ${hex(0, 8)} ${u32(4)} 00000000`);
  await client.expectEnd();
});

test('"NBD_CMD_WRITE_ZEROES", "NBD_CMD_TRIM": effect lengths have 64 bits', async () => {
  const calls: string[] = [];
  const { device } = testDisk();
  const size = 2 ** 40;
  const huge = Object.create(device, {
    size: { value: size },
    caps: { value: device.caps },
    zero: { value: async (offset: number, length: number) => void calls.push(`zero ${offset}+${length}`) },
    discard: { value: async (offset: number, length: number) => void calls.push(`trim ${offset}+${length}`) },
    flush: { value: async () => undefined },
  });
  await using serve = await serving({ exports: [{ name: '', device: huge, contexts: [] }] });
  const { client } = await extended(serve, []);
  client.send(ask(6, 1, size - 1) + ask(4, 0, size));
  await client.expect(told(0, 1) + told(0, 0));
  assert.deepEqual(calls, [`zero 1+${size - 1}`, `trim 0+${size}`]);
});

test('"NBD_OPT_STARTTLS": the server without TLS keeps what was agreed on when it is refused', async () => {
  await using serve = await start();
  await using client = await serve.connect();
  await client.expect(greeting);
  client.send(`00000003 ${option(11, '')} ${option(5, '')} ${option(7, `${u32(0)} 0000`)}`);
  assert.deepEqual(await takeReplies(client), [1]);
  assert.deepEqual(await takeReplies(client), [0x8000_0002]);
  assert.equal((await takeReplies(client)).at(-1), 1);
  client.send(ask(3, 0, 0));
  await client.expect(told(0, 0));
});
