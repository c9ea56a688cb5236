import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Order, type Piece, runPipeline } from '../src/pipeline.ts';

/** A pipeline over `count` pieces of one byte. */
function pipelineOf(
  count: number,
  parallel: number,
  work: (piece: Piece, buffer: Uint8Array, order: Order) => Promise<void>,
) {
  let at = 0;
  const next = async (): Promise<Piece | undefined> => (at < count ? { offset: at++, length: 1 } : undefined);
  return { total: count, parallel, bufferSize: 16, next, work };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('as many pieces as are allowed run at once, each with a buffer of its own', async () => {
  const inUse = new Set<Uint8Array>();
  const buffers = new Set<Uint8Array>();
  let most = 0;
  const work = async (_: Piece, buffer: Uint8Array): Promise<void> => {
    assert.equal(inUse.has(buffer), false);
    inUse.add(buffer);
    buffers.add(buffer);
    most = Math.max(most, inUse.size);
    await turn();
    inUse.delete(buffer);
  };
  await runPipeline(pipelineOf(50, 3, work), {});
  assert.equal(most, 3);
  assert.equal(buffers.size, 3);
});

test('turns are passed in the order of the pieces', async () => {
  const order: number[] = [];
  const work = async (piece: Piece, _: Uint8Array, { myTurn, passOn }: Order): Promise<void> => {
    for (let turns = (piece.offset * 7) % 5; turns > 0; turns--) await turn();
    await myTurn;
    order.push(piece.offset);
    passOn();
    await turn();
  };
  await runPipeline(pipelineOf(40, 4, work), {});
  assert.deepEqual(
    order,
    Array.from({ length: 40 }, (_, index) => index),
  );
});

test('a piece that fails does not hold up those that wait for their turn', async () => {
  const work = async (piece: Piece, _: Uint8Array, { myTurn }: Order): Promise<void> => {
    if (piece.offset === 0) {
      await turn();
      throw new Error('first');
    }
    await myTurn;
  };
  await assert.rejects(runPipeline(pipelineOf(10, 4, work), {}), /first/);
});

test('work that never waits leaves the event loop its turns', async () => {
  const controller = new AbortController();
  setImmediate(() => controller.abort());
  const endless = pipelineOf(Number.MAX_SAFE_INTEGER, 2, async () => {});
  await assert.rejects(runPipeline(endless, { signal: controller.signal }), { code: 'aborted' });
});
