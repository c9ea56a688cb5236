import assert from 'node:assert/strict';
import { test } from 'node:test';
import { twoDecimals } from '../../src/print/decimals.ts';

test('a tie is rounded to the even digit, as printf rounds it', () => {
  // Pairs printed by the C library's printf("%.2f").
  const printed: readonly (readonly [number, string])[] = [
    [3.125, '3.12'],
    [9.375, '9.38'],
    [0.125, '0.12'],
    [0.375, '0.38'],
    [15.625, '15.62'],
    [96.875, '96.88'],
  ];
  for (const [value, text] of printed) assert.equal(twoDecimals(value), text);
});

test('what is no tie is rounded to the nearest', () => {
  for (const [value, text] of [
    [0, '0.00'],
    [100, '100.00'],
    [1 / 3, '0.33'],
    [200 / 3, '66.67'],
    [1.005, '1.00'],
    [6.25, '6.25'],
  ] as const) {
    assert.equal(twoDecimals(value), text);
  }
});
