/** Names of checkpoints say which disk and which place in its series, and what lies between two of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { bitmapsBetween, formatCheckpoint, newIdentity, parseCheckpoint } from '../src/checkpoint-name.ts';

const name = (number: number, disk = '89abcdef'): string => `backup.${number}.0123abcd.${disk}`;

test('names read back as they were made, and others are none', () => {
  const parts = { series: 'off-site_2', number: 12, group: newIdentity(), disk: newIdentity() };
  assert.deepEqual(parseCheckpoint(formatCheckpoint(parts)), parts);
  const unfinished = { ...parts, unfinishedOf: 3 };
  assert.deepEqual(parseCheckpoint(formatCheckpoint(unfinished)), unfinished);
  for (const other of [
    '',
    'b0',
    'backup.1',
    name(0),
    `${name(1)}x`,
    name(1).toUpperCase(),
    `${name(1)}.unfinished-of-0`,
    `x/${name(1)}`,
    `${'s'.repeat(65)}.1.0123abcd.89abcdef`,
    'backup.01.0123abcd.89abcdef',
    `${name(1)}\n`,
  ])
    assert.equal(parseCheckpoint(other), undefined, other);
});

test('the bitmaps between two checkpoints are those of all numbers from the first on', () => {
  const all = [
    name(4),
    name(2),
    'other',
    name(3),
    name(1),
    name(3, '00000000'),
    `${name(3)}.unfinished-of-2`,
  ];
  assert.deepEqual(bitmapsBetween(all, name(2), name(4)), [name(2), name(3)]);
  assert.deepEqual(bitmapsBetween(all, name(3), name(4)), [name(3)]);
});

test('a gap, another disk, another series and the wrong direction are refused', () => {
  const rows: readonly (readonly [readonly string[], string, string, string])[] = [
    [[name(2)], name(1), name(3), 'not-found'],
    [[name(1), name(3)], name(1), name(4), 'not-found'],
    [['backup.1.ffffffff.89abcdef', name(2)], name(1), name(3), 'not-found'],
    [[name(1)], name(1), name(2, '00000000'), 'invalid'],
    [[name(1)], name(1), 'weekly.2.0123abcd.89abcdef', 'invalid'],
    [[name(1), name(2)], name(2), name(1), 'invalid'],
    [['b0'], 'b0', name(1), 'invalid'],
  ];
  for (const [names, from, to, code] of rows) {
    assert.throws(
      () => bitmapsBetween(names, from, to),
      (error) => isDiskError(error, code as never),
      `${from} to ${to}`,
    );
  }
});
