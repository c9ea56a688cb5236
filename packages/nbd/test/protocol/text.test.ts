import assert from 'node:assert/strict';
import { test } from 'node:test';
import { printable } from '../../src/protocol/text.ts';

test('ordinary text of any script stays as it is', () => {
  for (const text of ['', 'export "a" \\ b', 'Ünïcödé 日本語 🙂', 'x'.repeat(80)]) {
    assert.equal(printable(text), text);
  }
});

test('what a terminal obeys or a reader cannot see is escaped', () => {
  assert.equal(printable('a\x1b[31m\n\r\t\x7f\x9b'), 'a\\u{1b}[31m\\u{a}\\u{d}\\u{9}\\u{7f}\\u{9b}');
  assert.equal(printable('\u202egnp.exe\u2028\u200b'), '\\u{202e}gnp.exe\\u{2028}\\u{200b}');
  assert.equal(printable('\ud800x'), '\\u{d800}x');
});

test('a long text is cut after 80 characters and never inside one', () => {
  assert.equal(printable('x'.repeat(81)), `${'x'.repeat(80)}...`);
  assert.equal(printable('🙂'.repeat(4096)), `${'🙂'.repeat(80)}...`);
  assert.equal(printable('🙂x', 1), '🙂...');
});
