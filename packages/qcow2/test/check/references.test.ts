import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Findings } from '../../src/check/findings.ts';
import { References, SparseCounters } from '../../src/check/references.ts';
import { geometryOf } from '../../src/geometry.ts';
import { seeded } from '../random.ts';

test('sparse counters count as a map does, beyond a byte and up to 2^32 - 1', () => {
  const random = seeded(21);
  const counters = new SparseCounters(4);
  const oracle = new Map<number, number>();
  for (let i = 0; i < 20_000; i++) {
    const index = random.below(random.pick([20, 1000]));
    const times = random.pick([1, 1, 1, 7, 300, 2 ** 31]);
    counters.add(index, times);
    oracle.set(index, Math.min((oracle.get(index) ?? 0) + times, 2 ** 32 - 1));
  }
  for (let index = 0; index < 1000; index++) assert.equal(counters.get(index), oracle.get(index) ?? 0);
  assert.deepEqual(
    [...counters.entries()],
    [...oracle].sort(([a], [b]) => a - b),
  );
});

test('pages that nothing was counted in are passed over', () => {
  const counters = new SparseCounters(4);
  counters.add(100, 1);
  assert.equal(counters.nextUsed(0, 1000), 96);
  assert.equal(counters.nextUsed(97, 1000), 97);
  assert.equal(counters.nextUsed(112, 1000), 1000);
  assert.equal(counters.nextUsed(0, 50), 50);
});

test('references past the largest refcount are corruptions, each of them', () => {
  const findings = new Findings();
  const g = geometryOf({ version: 3, clusterBits: 9, refcountOrder: 1, incompatible: 0n });
  const references = new References(g, 10 * 512, findings);
  references.count(512, 512, 2);
  assert.ok(references.countCluster(512, 4));
  assert.equal(references.of(1), 3);
  assert.equal(findings.counts().corruptions, 3);
  assert.match(findings.counts().findings[0]?.text ?? '', /^ERROR: overflow cluster offset=0x200\n/);
});

test('a range may reach less than a cluster behind the end of the file', () => {
  const findings = new Findings();
  const g = geometryOf({ version: 3, clusterBits: 9, refcountOrder: 4, incompatible: 0n });
  const references = new References(g, 1024, findings);
  references.count(512, 1023);
  assert.equal(references.clusters, 3);
  assert.equal(findings.counts().corruptions, 0);
  references.count(512, 1024);
  assert.equal(findings.counts().corruptions, 1);
  assert.deepEqual([references.of(1), references.of(2)], [1, 1]);
});
