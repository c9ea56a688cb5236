import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copy, DiskError, faulty, isDiskError, MemoryDevice, salvaged } from '@strata/block';
import { randomFrom } from '@strata/testkit';

const size = 3_000_001;

async function damaged(bad: readonly number[], code: 'io' | 'closed' = 'io') {
  const memory = new MemoryDevice(size);
  await memory.write(randomFrom(1).bytes(size), 0);
  const hits = ({ offset, length }: { offset: number; length: number }): boolean =>
    bad.some((sector) => offset < (sector + 1) * 512 && offset + length > sector * 512);
  const disk = faulty(memory, (call) =>
    call.call === 'read' && hits(call) ? { fail: new DiskError(code, 'Input/output error') } : undefined,
  );
  return { memory, disk };
}

test('what cannot be read is zeros to the sector, everything else is what it was', async () => {
  const bad = [0, 1, 100, 4095, 4096, Math.floor(size / 512)];
  const { memory, disk } = await damaged(bad);
  const lost: number[] = [];
  await using target = new MemoryDevice(size);
  await copy(
    salvaged(disk, ({ step, offset }) => step === 'read' && lost.push(offset)),
    target,
    { parallel: 1 },
  );
  const expected = memory.bytes();
  for (const sector of bad) expected.fill(0, sector * 512, (sector + 1) * 512);
  assert.ok(Buffer.compare(target.bytes(), expected) === 0);
  assert.deepEqual(
    lost,
    bad.map((sector) => sector * 512),
  );
});

test('reads that begin inside a sector are salvaged as well', async () => {
  const { memory, disk } = await damaged([3]);
  const into = new Uint8Array(2000);
  await salvaged(disk, () => undefined).read(into, 1001);
  const expected = memory.bytes().fill(0, 1536, 2048).subarray(1001, 3001);
  assert.ok(Buffer.compare(into, expected) === 0);
});

test('a range whose description fails is read', async () => {
  const { memory } = await damaged([]);
  const disk = faulty(memory, ({ call, offset }) =>
    call === 'extent' && offset < 100_000 ? { fail: new DiskError('corrupt', 'bad table') } : undefined,
  );
  const steps: string[] = [];
  await using target = new MemoryDevice(size);
  await copy(
    salvaged(disk, ({ step }) => steps.push(step)),
    target,
  );
  assert.ok(Buffer.compare(target.bytes(), memory.bytes()) === 0);
  assert.deepEqual(new Set(steps), new Set(['map']));
});

test('a connection that is gone is no damage', async () => {
  const { disk } = await damaged([7], 'closed');
  const told: unknown[] = [];
  const source = salvaged(disk, (loss) => told.push(loss));
  await assert.rejects(source.read(new Uint8Array(8192), 0), (error) => isDiskError(error, 'closed'));
  assert.deepEqual(told, []);
});
