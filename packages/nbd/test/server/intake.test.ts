import assert from 'node:assert/strict';
import { test } from 'node:test';
import { u32 } from './raw-client.ts';
import { request, serving, simple } from './serving.ts';
import { testDisk } from './test-disk.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
/** Bytes that tell which write they are of, and every 4 KiB where in it. */
function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length, `${seed} is the number of this write; `);
  for (let at = 0; at + 4 <= length; at += 4096) bytes.writeUInt32BE(at, at);
  return bytes;
}

for (const length of [1, 4096, 32 * KiB, 32 * KiB + 1, 64 * KiB, 256 * KiB, 300_001, 5 * MiB, 32 * MiB]) {
  test(`writes of ${length} bytes reach the disk, several of them one behind the other`, async () => {
    const disk = testDisk({ size: 3 * length + 10 });
    await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
    await using client = await serve.connected();
    for (const index of [0, 1, 2]) {
      client.send(request(1, index * length + 3, length));
      client.send(pattern(length, index));
    }
    await client.expect(simple().repeat(3));
    for (const index of [0, 1, 2]) {
      const at = index * length + 3;
      assert.ok(disk.bytes.subarray(at, at + length).equals(pattern(length, index)), `write ${index}`);
    }
  });
}

test('a write that comes in pieces of any size is put together', async () => {
  const disk = testDisk({ size: 400 * KiB });
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected();
  const payload = pattern(200 * KiB, 1);
  const bytes = Buffer.concat([
    Buffer.from(request(1, 5, payload.length).replace(/\s/g, ''), 'hex'),
    payload,
    Buffer.from(request(3, 0, 0).replace(/\s/g, ''), 'hex'),
  ]);
  for (let at = 0, step = 1; at < bytes.length; at += step, step = (step * 7) % 30_011) {
    client.send(bytes.subarray(at, at + step));
    await new Promise(setImmediate);
  }
  await client.expect(simple() + simple());
  assert.ok(disk.bytes.subarray(5, 5 + payload.length).equals(payload));
});

for (const [claim, offset, length, errno] of [
  ['past the end', MiB - 1, 2, 28],
  ['of 32 MiB past the end', 0, 32 * MiB, 28],
] as const) {
  test(`the payload of a write ${claim} is passed over, and nothing is written`, async () => {
    const disk = testDisk();
    await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
    await using client = await serve.connected();
    client.send(request(1, offset, length));
    client.send(Buffer.alloc(length, 0x25));
    client.send(request(3, 0, 0));
    await client.expect(simple(errno) + simple());
    assert.ok(disk.bytes.every((byte) => byte === 0));
  });
}

test('a write of more than 32 MiB is passed over and refused, one of more than 64 MiB ends the connection', async () => {
  const disk = testDisk({ size: 128 * MiB });
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected();
  for (const length of [32 * MiB + 1, 64 * MiB]) {
    client.send(request(1, 0, length));
    client.send(Buffer.alloc(length, 0x25));
    await client.expect(simple(22));
  }
  assert.deepEqual(disk.calls, []);
  client.send(request(1, 0, 64 * MiB + 1));
  await client.expectEnd();
});

test('a payload is not touched again before the disk has written it', async () => {
  const disk = testDisk({ size: 8 * MiB });
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  const open = disk.hold('write');
  await using client = await serve.connected();
  const count = 15;
  const each = 20 * KiB;
  for (let index = 0; index < count; index++) {
    client.send(request(1, index * each, each));
    client.send(Buffer.alloc(each, index + 1));
  }
  client.send(request(0, 0, 4));
  await client.expect(simple() + u32(0));
  open();
  await client.expect(simple().repeat(count));
  for (let index = 0; index < count; index++) {
    assert.ok(disk.bytes.subarray(index * each, (index + 1) * each).every((byte) => byte === index + 1));
  }
});
