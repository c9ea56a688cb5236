import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Turns } from '../src/turns.ts';

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('everybody waits for all who came before, whoever passes on first', async () => {
  const turns = new Turns();
  const [a, b, c] = [turns.take(), turns.take(), turns.take()];
  const seen: string[] = [];
  for (const [name, turn] of Object.entries({ a, b, c })) turn.ready.then(() => seen.push(name));
  await settled();
  assert.deepEqual(seen, ['a']);
  b.pass();
  await settled();
  assert.deepEqual(seen, ['a', 'b'].slice(0, 1));
  a.pass();
  await settled();
  assert.deepEqual(seen, ['a', 'b', 'c']);
  c.pass();
  c.pass();
});

test('who joins while nobody is in the order has no turn', async () => {
  const turns = new Turns();
  assert.equal(turns.join(), undefined);
  const first = turns.take();
  const second = turns.join();
  assert.ok(second);
  first.pass();
  await second.ready;
  second.pass();
  await settled();
  assert.equal(turns.join(), undefined);
});
