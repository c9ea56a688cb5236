import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExtentKind } from '@strata/block';
import { u32 } from './raw-client.ts';
import { chunk, request, serving, simple } from './serving.ts';
import { testDisk } from './test-disk.ts';

const KiB = 1024;
const offset = (value: number): string => value.toString(16).padStart(16, '0');
/** Chunks of a read reply; the last one is marked unless `flags` says otherwise. */
const data = (at: number, bytes: string, flags = 1): string => chunk(1, offset(at) + bytes, flags);
const hole = (at: number, length: number, flags = 1): string => chunk(2, offset(at) + u32(length), flags);

/** 4 KiB data, 4 KiB hole, 4 KiB data, 52 KiB hole, data to the end. */
function striped(slow: boolean) {
  const disk = testDisk({ size: 256 * KiB, slow });
  for (const at of [0, 8 * KiB]) {
    disk.bytes.fill(0xaa, at, at + 4 * KiB);
    disk.setKind(at, 4 * KiB, 'data');
  }
  disk.bytes.fill(0xbb, 64 * KiB);
  disk.setKind(64 * KiB, 192 * KiB, 'data');
  return disk;
}

for (const slow of [false, true]) {
  const how = slow ? 'from a disk that has to wait' : 'at once';

  test(`with simple replies bytes and holes are one piece, ${how}`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: striped(slow).device }] });
    await using client = await serve.connected();
    client.send(request(0, 4 * KiB - 2, 4 * KiB + 4));
    await client.expect(`${simple()} aaaa ${'00'.repeat(4 * KiB)} aaaa`);
  });

  test(`a read inside data is one chunk that is the last, ${how}`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: striped(slow).device }] });
    await using client = await serve.connected({ structured: true });
    client.send(request(0, 4 * KiB - 2, 2));
    await client.expect(data(4 * KiB - 2, 'aaaa'));
    client.send(request(0, 256 * KiB - 1, 1));
    await client.expect(data(256 * KiB - 1, 'bb'));
  });

  test(`holes travel as a number, ${how}`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: striped(slow).device }] });
    await using client = await serve.connected({ structured: true });
    client.send(request(0, 5 * KiB, 1));
    await client.expect(hole(5 * KiB, 1));
    client.send(request(0, 4 * KiB - 1, 60 * KiB + 2));
    await client.expect(data(4 * KiB - 1, 'aa', 0) + hole(4 * KiB, 4 * KiB, 0));
    await client.expect(data(8 * KiB, 'aa'.repeat(4 * KiB), 0));
    await client.expect(hole(12 * KiB, 52 * KiB, 0) + data(64 * KiB, 'bb'));
  });

  test(`DF makes one piece of bytes of it, ${how}`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: striped(slow).device }] });
    await using client = await serve.connected({ structured: true });
    client.send(request(0, 4 * KiB - 1, 4 * KiB + 2, 4));
    await client.expect(data(4 * KiB - 1, `aa${'00'.repeat(4 * KiB)}aa`));
  });

  test(`a read that alternates too often is not divided further, ${how}`, async () => {
    const disk = testDisk({ size: 256 * KiB, slow });
    disk.bytes.fill(0xcc);
    for (let at = 0; at < 256 * KiB; at += 8 * KiB) {
      disk.setKind(at, 4 * KiB, 'data');
      disk.bytes.fill(0, at + 4 * KiB, at + 8 * KiB);
    }
    await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
    await using client = await serve.connected({ structured: true });
    client.send(request(0, 0, 256 * KiB));
    const read = Buffer.alloc(256 * KiB, 0xff);
    let chunks = 0;
    for (let last = false; !last; chunks++) {
      const header = await client.receive(20);
      last = header.readUInt16BE(4) === 1;
      const body = await client.receive(header.readUInt32BE(16));
      const at = Number(body.readBigUInt64BE(0));
      if (header.readUInt16BE(6) === 1) body.copy(read, at, 8);
      else read.fill(0, at, at + body.readUInt32BE(8));
    }
    assert.deepEqual(read, disk.bytes);
    assert.ok(chunks <= 16, `${chunks} chunks`);
  });

  for (const length of [255 * KiB, 256 * KiB, 257 * KiB, 1024 * KiB, 1025 * KiB]) {
    test(`a read of ${length} bytes comes whole, ${how}`, async () => {
      const disk = testDisk({ size: 2048 * KiB, slow });
      for (let at = 0; at < disk.bytes.length; at += 4) disk.bytes.writeUInt32BE(at, at);
      disk.setKind(0, disk.bytes.length, 'data');
      await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
      await using client = await serve.connected({ structured: true });
      for (const at of [0, 12345]) {
        client.send(request(0, at, length));
        const header = await client.receive(28);
        assert.equal(header.readUInt32BE(16), length + 8);
        assert.deepEqual(await client.receive(length), disk.bytes.subarray(at, at + length));
      }
    });
  }
}

for (const [kind, travels] of [
  ['data', 'bytes'],
  ['compressed', 'bytes'],
  ['zero', 'a number'],
  ['zero-allocated', 'a number'],
  ['hole', 'a number'],
] as const satisfies readonly (readonly [ExtentKind, string])[]) {
  test(`an extent of kind ${kind} travels as ${travels}`, async () => {
    const disk = testDisk();
    disk.setKind(0, 4096, kind);
    await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
    await using client = await serve.connected({ structured: true });
    client.send(request(0, 0, 4096));
    await client.expect(travels === 'bytes' ? data(0, '00'.repeat(4096)) : hole(0, 4096));
  });
}

test('what was data stays right after it was written, zeroed and trimmed', async () => {
  const disk = striped(false);
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected({ structured: true });
  client.send(request(0, 64 * KiB, 1));
  await client.expect(data(64 * KiB, 'bb'));
  client.send(request(6, 64 * KiB, 4 * KiB));
  await client.expect(simple());
  client.send(request(0, 68 * KiB - 1, 2));
  await client.expect(data(68 * KiB - 1, '00bb'));
  client.send(request(0, 5 * KiB, 1));
  await client.expect(hole(5 * KiB, 1));
  client.send(`${request(1, 5 * KiB, 1)} dd`);
  await client.expect(simple());
  client.send(request(0, 5 * KiB, 1));
  await client.expect(data(5 * KiB, 'dd'));
});

test('many reads that arrive together are all answered', async () => {
  const disk = testDisk({ size: 1024 * KiB });
  for (let at = 0; at < disk.bytes.length; at += 4) disk.bytes.writeUInt32BE(at, at);
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected();
  const count = 3000;
  const at = (index: number): number => (index * 1356) % (1020 * KiB);
  client.send(Array.from({ length: count }, (_, index) => request(0, at(index), 1356)).join(''));
  for (let index = 0; index < count; index++) {
    await client.expect(simple());
    assert.deepEqual(await client.receive(1356), disk.bytes.subarray(at(index), at(index) + 1356));
  }
});
