import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Quarantine } from '../src/quarantine.ts';

test('neighbours that come one after the other are one run', () => {
  const quarantine = new Quarantine();
  for (const cluster of [5, 6, 7, 20, 8]) quarantine.add(cluster);
  quarantine.add(9, 3);
  assert.equal(quarantine.clusters, 8);
  assert.deepEqual(quarantine.take(), [
    { first: 5, count: 3 },
    { first: 20, count: 1 },
    { first: 8, count: 4 },
  ]);
  assert.equal(quarantine.clusters, 0);
  assert.deepEqual(quarantine.take(), []);
});

test('what was handed over can come back beside what has come since', () => {
  const quarantine = new Quarantine();
  quarantine.add(5, 2);
  const taken = quarantine.take();
  quarantine.add(1);
  quarantine.restore(taken);
  assert.deepEqual(quarantine.take(), [
    { first: 1, count: 1 },
    { first: 5, count: 2 },
  ]);
});
