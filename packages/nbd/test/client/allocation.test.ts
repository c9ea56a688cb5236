import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { Allocation, type StatusSource } from '../../src/client/allocation.ts';
import type { BlockStatus } from '../../src/protocol/extents.ts';

/** A server that answers for contexts 0 (allocation) and 1 (a bitmap), and remembers what it was asked. */
function asked(options: Partial<StatusSource> = {}): { allocation: Allocation; requests: string[] } {
  const requests: string[] = [];
  const source: StatusSource = {
    size: 2 ** 40,
    minimumBlock: 1,
    contexts: [
      { id: 0, name: 'base:allocation' },
      { id: 1, name: 'qemu:dirty-bitmap:b' },
    ],
    mostAtOnce: 2 ** 32 - 65536,
    ask: async (offset, length) => {
      requests.push(`${offset}+${length}`);
      return [runs(1, [512, 1], [length, 0]), runs(0, [4096, 0], [4096, 3], [length, 0])];
    },
    ...options,
  };
  return { allocation: new Allocation(source), requests };
}

const runs = (contextId: number, ...list: readonly (readonly [number, number])[]): BlockStatus => ({
  contextId,
  lengths: Uint32Array.from(list, ([length]) => length),
  flags: Uint32Array.from(list, ([, flags]) => flags),
});

test('what a reply tells besides needs no request', async () => {
  const { allocation, requests } = asked();
  assert.equal(allocation.tryExtentAt(0, 65536), undefined);
  assert.equal((await allocation.extentAt(0, 65536)).length, 4096);
  assert.deepEqual(allocation.tryExtentAt(4096, 65536), {
    offset: 4096,
    length: 4096,
    kind: 'zero',
    depth: 1,
  });
  assert.equal((await allocation.extentAt(8192, 57344)).kind, 'data');
  assert.deepEqual(requests, ['0+65536']);
});

test('walks of extents and of a context do not disturb each other', async () => {
  const { allocation, requests } = asked();
  await allocation.extentAt(0, 65536);
  const name = 'qemu:dirty-bitmap:b';
  assert.deepEqual(await allocation.contextAt(name, 0, 65536), { offset: 0, length: 512, flags: 1 });
  assert.deepEqual(await allocation.contextAt(name, 512, 100), { offset: 512, length: 100, flags: 0 });
  assert.equal((await allocation.extentAt(4096, 100)).kind, 'zero');
  assert.deepEqual(requests, ['0+65536', '0+65536']);
});

test('requests are whole blocks, and end with the disk', async () => {
  const { allocation, requests } = asked({ minimumBlock: 4096, size: 16384 });
  assert.deepEqual(await allocation.extentAt(5000, 100), {
    offset: 5000,
    length: 100,
    kind: 'data',
    depth: 1,
  });
  allocation.changed();
  await allocation.extentAt(16000, 384);
  assert.deepEqual(requests, ['4096+4096', '12288+4096']);
});

test('a request fits 32 bits, whatever was asked for', async () => {
  const { allocation, requests } = asked();
  await allocation.extentAt(0, 2 ** 40);
  assert.deepEqual(requests, ['0+4294901760']);
});

test('an answer that was under way when a write began or ended is not kept', async () => {
  let answer: (statuses: readonly BlockStatus[]) => void = () => undefined;
  const { allocation } = asked({
    ask: () =>
      new Promise((resolve) => {
        answer = resolve;
      }),
  });
  const first = allocation.extentAt(0, 8192);
  allocation.changed();
  answer([runs(0, [4096, 0], [4096, 3]), runs(1, [8192, 0])]);
  assert.equal((await first).kind, 'data');
  assert.equal(allocation.tryExtentAt(4096, 4096), undefined);
  const second = allocation.extentAt(0, 8192);
  answer([runs(0, [4096, 0], [4096, 3]), runs(1, [8192, 0])]);
  await second;
  allocation.changed();
  assert.equal(allocation.tryExtentAt(4096, 4096), undefined);
});

test('without a context that tells, everything is data', async () => {
  const { allocation, requests } = asked({ contexts: [{ id: 1, name: 'qemu:dirty-bitmap:b' }] });
  assert.deepEqual(await allocation.extentAt(5, 10), { offset: 5, length: 10, kind: 'data', depth: 1 });
  assert.deepEqual(requests, []);
});

test('a context that was not negotiated is not found', async () => {
  const { allocation } = asked();
  await assert.rejects(allocation.contextAt('x:y', 0, 1), (error) => isDiskError(error, 'not-found'));
});

test('an answer that ends before the byte in question breaks the protocol', async () => {
  const { allocation } = asked({
    minimumBlock: 4096,
    ask: async () => [runs(0, [1, 0]), runs(1, [4096, 0])],
  });
  await assert.rejects(allocation.extentAt(100, 10), (error) => isDiskError(error, 'protocol'));
});
