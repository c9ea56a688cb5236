import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFrom } from '@strata/testkit';
import { type Operation, violation } from './linearizable.ts';

const write = (value: number, start: number, end: number): Operation => ({
  kind: 'write',
  value,
  start,
  end,
});
const read = (value: number, start: number, end: number): Operation => ({ kind: 'read', value, start, end });

for (const [claim, ...operations] of [
  ['nothing happened'],
  ['what stood there first is read', read(0, 1, 2), read(0, 3, 4)],
  ['a read that overlaps a write sees either value', write(1, 1, 4), read(0, 2, 3), read(1, 5, 6)],
  ['a read that overlaps a write sees the new value', write(1, 1, 4), read(1, 2, 3), read(1, 5, 6)],
  [
    'of two writes at a time either may be last',
    write(1, 1, 4),
    write(2, 2, 3),
    read(1, 5, 6),
    read(1, 7, 8),
  ],
  ['a value that is there for a moment is seen by nobody', write(1, 1, 6), write(2, 2, 5), read(1, 7, 8)],
] as [string, ...Operation[]][]) {
  test(`${claim}: allowed`, () => assert.equal(violation(operations), undefined));
}

for (const [claim, ...operations] of [
  ['a read after a write sees the old value', write(1, 1, 2), read(0, 3, 4)],
  ['a read sees a value before its write begins', read(1, 1, 2), write(1, 3, 4)],
  ['a read sees what nobody wrote', read(7, 1, 2)],
  ['a value comes back', write(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)],
  ['two reads in turn see old after new', write(1, 1, 8), read(1, 2, 3), read(0, 4, 5)],
  [
    'two readers disagree on the order of two writes',
    write(1, 1, 9),
    write(2, 1, 9),
    read(1, 10, 11),
    read(2, 12, 13),
  ],
  [
    'a write is lost that came between two sightings of another',
    write(1, 1, 2),
    write(2, 5, 6),
    read(1, 7, 8),
  ],
] as [string, ...Operation[]][]) {
  test(`${claim}: caught`, () => assert.notEqual(violation(operations), undefined));
}

/** Every order of at most seven operations, the slow and certain way. */
function isLinearizable(operations: readonly Operation[], value = 0): boolean {
  if (operations.length === 0) return true;
  const firstEnd = Math.min(...operations.map(({ end }) => end));
  return operations.some((operation, index) => {
    if (operation.start > firstEnd) return false;
    if (operation.kind === 'read' && operation.value !== value) return false;
    return isLinearizable(operations.toSpliced(index, 1), operation.value);
  });
}

test('the quick answer is that of trying every order', () => {
  const random = randomFrom(20_260_101);
  const verdicts = { allowed: 0, caught: 0 };
  for (let round = 0; round < 20_000; round++) {
    const count = 2 + random.upTo(4);
    const times = Array.from({ length: 2 * count }, (_, index) => index);
    const operations: Operation[] = [];
    let writes = 0;
    for (let index = 0; index < count; index++) {
      const [a, b] = [take(times, random.upTo(times.length - 1)), take(times, random.upTo(times.length - 1))];
      const kind = random.upTo(1) === 0 ? 'read' : 'write';
      const value = kind === 'write' ? ++writes : random.upTo(count - 1);
      operations.push({ kind, value, start: Math.min(a, b), end: Math.max(a, b) });
    }
    const expected = isLinearizable(operations);
    verdicts[expected ? 'allowed' : 'caught']++;
    assert.equal(violation(operations) === undefined, expected, JSON.stringify(operations));
  }
  assert.ok(verdicts.allowed > 1000 && verdicts.caught > 1000, JSON.stringify(verdicts));
});

function take(times: number[], index: number): number {
  return times.splice(index, 1)[0] as number;
}
