import assert from 'node:assert/strict';
import { test } from 'node:test';
import { L2Walks } from '../../src/check/l2-walks.ts';

test('a table is new when it is first reached, and is counted by who reaches it', () => {
  const walks = new L2Walks(4096);
  assert.deepEqual(
    [walks.reach(0x4000, true), walks.reach(0x4000, true), walks.reach(0x4000, false)],
    [true, false, false],
  );
  assert.deepEqual([walks.reach(0x8000, false), walks.reach(0x8000, false)], [true, false]);
  assert.ok(walks.reach(0xc000, true));
  assert.deepEqual(
    [0x4000, 0x8000, 0xc000, 0x10000].map((at) => walks.active(at)),
    [2, 0, 1, 0],
  );
  assert.deepEqual(
    [0x4000, 0x8000, 0xc000, 0x10000].map((at) => walks.has(at)),
    [true, true, true, false],
  );
  assert.deepEqual(
    [...walks.again()],
    [
      { at: 0x4000, times: 2, activeTimes: 1 },
      { at: 0x8000, times: 1, activeTimes: 0 },
    ],
  );
});

test('a table that does not start on a cluster lies in two', () => {
  const walks = new L2Walks(4096);
  assert.ok(walks.reach(0x4200, true));
  assert.equal(walks.reach(0x4200, false), false);
  assert.ok(walks.reach(0x5000, false));
  assert.deepEqual(
    [3, 4, 5, 6].map((cluster) => walks.covering(cluster)),
    [0, 2, 3, 0],
  );
  assert.deepEqual(
    [0x4200, 0x4000, 0x4400].map((at) => walks.has(at)),
    [true, false, false],
  );
  assert.equal(walks.active(0x4200), 1);
  assert.deepEqual([...walks.again()], [{ at: 0x4200, times: 1, activeTimes: 0 }]);
});
