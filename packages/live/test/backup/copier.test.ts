/** Copying ranges of a disk to another one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskError, faulty, isDiskError, MemoryDevice } from '@strata/block';
import { ChainDevice } from '@strata/chain';
import { createQcow2, qcow2Format } from '@strata/qcow2';
import { assertSameBytes, bytesOf, randomFrom } from '@strata/testkit';
import { Copier } from '../../src/backup/copier.ts';

const size = 40 * 65_536;

async function image(): Promise<ChainDevice> {
  const memory = new MemoryDevice();
  await createQcow2(memory, { size });
  return new ChainDevice(await qcow2Format.open(memory), []);
}

test('data is copied as it is, zeros as zeros, and nothing where neither side has anything', async () => {
  const random = randomFrom(4);
  const [source, target] = [await image(), await image()];
  await source.write(random.bytes(2_000_000), 65_536);
  await source.zero(300_000, 200_000);
  await target.write(random.bytes(100_000), 350_000);
  await new Copier(
    () => source,
    () => target,
  ).copy(0, size);
  assertSameBytes(await bytesOf(target), await bytesOf(source));
  assert.equal((await target.extentAt(0, size)).kind, 'hole');
});

test('where what is under the target will change, its holes are filled too', async () => {
  const [source, target] = [await image(), await image()];
  const copier = new Copier(
    () => source,
    () => target,
    { fillsHoles: true },
  );
  await copier.copy(0, 131_072);
  const extent = await target.extentAt(0, size);
  assert.deepEqual([extent.kind, extent.length], ['zero', 131_072]);
});

test('a failure tells on which side it was', async () => {
  const broken = new DiskError('io', 'Input/output error');
  const bad = faulty(new MemoryDevice(size), ({ call }) =>
    call === 'read' || call === 'write' || call === 'zero' ? { fail: broken } : undefined,
  );
  const good = new MemoryDevice(size);
  await good.write(new Uint8Array(65_536).fill(1), 0);
  const unreadable = faulty(good, ({ call }) => (call === 'read' ? { fail: broken } : undefined));
  for (const [source, target, op] of [
    [good, bad, 'write'],
    [unreadable, good, 'read'],
  ] as const) {
    const copier = new Copier(
      () => source,
      () => target,
    );
    await assert.rejects(
      copier.copy(0, 4096),
      (error) => isDiskError(error, 'io') && error.context.op === op && error.cause === broken,
    );
  }
});

test('the next byte that the top holds is found', async () => {
  const disk = await image();
  await disk.write(new Uint8Array(1).fill(1), 3 * 65_536 + 5);
  const copier = new Copier(
    () => disk,
    () => disk,
  );
  assert.equal(await copier.nextInTop(0, size), 3 * 65_536);
  assert.equal(await copier.nextInTop(4 * 65_536, 65_536), undefined);
});
