import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MetaContext } from '../../src/server/contexts.ts';
import { u32 } from './raw-client.ts';
import { chunk, option, request, serving, takeReplies } from './serving.ts';
import { ioError, testDisk } from './test-disk.ts';

const KiB = 1024;
/** A BLOCK_STATUS chunk of one context. */
const status = (id: number, runs: readonly (readonly [number, number])[], flags = 1): string =>
  chunk(5, u32(id) + runs.map(([length, value]) => u32(length) + u32(value)).join(''), flags);

function layered(slow: boolean) {
  const disk = testDisk({ size: 64 * KiB, slow });
  disk.setKind(0, 8 * KiB, 'data', 2);
  disk.setKind(8 * KiB, 4 * KiB, 'compressed', 1);
  disk.setKind(12 * KiB, 4 * KiB, 'zero', 1);
  disk.setKind(16 * KiB, 4 * KiB, 'zero-allocated', 3);
  return disk;
}
const allocation = [
  [12 * KiB, 0],
  [52 * KiB, 3],
] as const;
const depth = [
  [8 * KiB, 2],
  [8 * KiB, 1],
  [4 * KiB, 3],
  [44 * KiB, 0],
] as const;

for (const slow of [false, true]) {
  const how = slow ? 'from a disk that has to wait' : 'at once';

  test(`base:allocation merges what reads alike, ${how}`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: layered(slow).device }] });
    await using client = await serve.connected({ structured: true, contexts: ['base:allocation'] });
    client.send(request(7, 0, 64 * KiB));
    await client.expect(status(0, allocation));
  });

  test(`both contexts are answered in order of their identifiers, the last marked, ${how}`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: layered(slow).device }] });
    const contexts = ['qemu:allocation-depth', 'base:allocation'];
    await using client = await serve.connected({ structured: true, contexts });
    client.send(request(7, 0, 64 * KiB));
    await client.expect(status(0, allocation, 0) + status(1, depth));
  });

  test(`a reply never goes beyond the request, ${how}`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: layered(slow).device }] });
    await using client = await serve.connected({ structured: true, contexts: ['qemu:allocation-depth'] });
    client.send(request(7, 8 * KiB - 1, 3));
    await client.expect(
      status(1, [
        [1, 2],
        [2, 1],
      ]),
    );
  });

  test(`REQ_ONE gives one extent, as long as it is alike, ${how}`, async () => {
    await using serve = await serving({ exports: [{ name: '', device: layered(slow).device }] });
    const contexts = ['base:allocation', 'qemu:allocation-depth'];
    await using client = await serve.connected({ structured: true, contexts });
    client.send(request(7, 4 * KiB, 60 * KiB, 8));
    await client.expect(status(0, [[8 * KiB, 0]], 0) + status(1, [[4 * KiB, 2]]));
  });
}

test('a failure in any context is an error and no chunk', async () => {
  const disk = layered(true);
  disk.fail('extentAt', ioError);
  await using serve = await serving({ exports: [{ name: '', device: disk.device }] });
  await using client = await serve.connected({ structured: true, contexts: ['base:allocation'] });
  client.send(request(7, 0, 64 * KiB));
  const header = await client.receive(20);
  assert.equal(header.readUInt16BE(6), 0x8001);
  assert.equal((await client.receive(header.readUInt32BE(16))).readUInt32BE(0), 5);
});

/** A context that has another status for each byte. */
const restless: MetaContext = {
  name: 'x-test:restless',
  describe: () => Promise.reject(new Error('not asked')),
  tryDescribe: (offset) => ({ length: 1, flags: offset % 2 === 0 ? 0x8000_0000 : 1 }),
};
/** A context that is slow to say that all is alike. */
const stuttering: MetaContext = {
  name: 'x-test:stuttering',
  describe: () => Promise.reject(new Error('not asked')),
  tryDescribe: () => ({ length: 1, flags: 7 }),
};

test('contexts of the caller are served, numbered behind those that QEMU has', async () => {
  const { device } = testDisk();
  await using serve = await serving({ exports: [{ name: '', device, contexts: [stuttering, restless] }] });
  await using client = await serve.connected({ structured: true, contexts: ['x-test:restless'] });
  client.send(request(7, 0, 2));
  await client.expect(
    status(3, [
      [1, 0x8000_0000],
      [1, 1],
    ]),
  );
  await using lister = await serve.connect();
  await lister.receive(18);
  lister.send(`00000003 ${option(9, '00000000 00000000')}`);
  assert.deepEqual(await takeReplies(lister), [4, 4, 1]);
});

test('a reply ends early after 65536 questions to the disk, and lets others have their turns', async () => {
  const { device } = testDisk();
  await using serve = await serving({ exports: [{ name: '', device, contexts: [stuttering, restless] }] });
  for (const [name, runs] of [
    ['x-test:stuttering', 1],
    ['x-test:restless', 65_536],
  ] as const) {
    await using client = await serve.connected({ structured: true, contexts: [name] });
    client.send(request(7, 0, 1024 * KiB) + request(0, 0, 4, 4));
    await client.expect(chunk(1, '0000000000000000 00000000'));
    const header = await client.receive(20);
    const body = await client.receive(header.readUInt32BE(16));
    assert.equal(body.length, 4 + 8 * runs);
    let total = 0;
    for (let at = 4; at < body.length; at += 8) total += body.readUInt32BE(at);
    assert.equal(total, 65_536);
  }
});
