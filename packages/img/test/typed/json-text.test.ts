import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JsonTextError, parseJsonText } from '../../src/typed/json-text.ts';
import type { Value } from '../../src/typed/value.ts';

/** Objects as plain ones, for comparing; the keys keep their order. */
function plain(value: Value): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, each]) => [key, plain(each)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

test('JSON is read, with strings in either kind of quotes', () => {
  assert.deepEqual(plain(parseJsonText(` {"a": [1, -2.5e1, true, false, null, {}, []], 'b' : "c'd" } `)), {
    a: [1, -25, true, false, undefined, {}, []],
    b: "c'd",
  });
  assert.equal(parseJsonText(String.raw`'it\'s\n\u00e9\ud83d\ude00\/\\'`), `it's\n\u00e9\u{1f600}/\\`);
});

/** Each sentence was printed by qemu-img 7.2 for `--object` and this text. */
const refused: readonly (readonly [text: string, sentence: string])[] = [
  ['{', 'JSON parse error, premature EOI'],
  ['{"a"', 'JSON parse error, premature EOI'],
  ['{"a":', 'JSON parse error, premature EOI'],
  ['{"a":1', 'JSON parse error, premature EOI'],
  ['{"a"}', 'JSON parse error, missing : in object pair'],
  ['{"a"  1}', 'JSON parse error, missing : in object pair'],
  ['{"a":}', 'JSON parse error, expecting value'],
  ['{"a":1,}', 'JSON parse error, expecting value'],
  ['{"a":[1,]}', 'JSON parse error, expecting value'],
  ['{,}', 'JSON parse error, expecting value'],
  ['{a:1}', "JSON parse error, invalid keyword 'a'"],
  ['{"a":nul}', "JSON parse error, invalid keyword 'nul'"],
  ['{"a":1 "b":2}', 'JSON parse error, expected separator in dict'],
  ['{"a":[1}', 'JSON parse error, expected separator in list'],
  ['{"a":1}}', 'Expecting at most one JSON value'],
  ['{"a":1}x', 'Expecting at most one JSON value'],
  ['{"a":01}', "JSON parse error, stray '01'"],
  ['{"a":"b', `JSON parse error, stray '"b'`],
  ['{"a":%d}', "JSON parse error, stray '%'"],
  ['{"a":-}', "JSON parse error, stray '-}'"],
  ['{"a":#}', "JSON parse error, stray '#'"],
  ['{1:2}', 'JSON parse error, key is not a string in object'],
  ['{"a":1,"a":2}', 'JSON parse error, duplicate key'],
];

for (const [text, sentence] of refused) {
  test(`${text} is refused as qemu-img refuses it`, () => {
    assert.throws(
      () => parseJsonText(text),
      (error) => {
        assert.ok(error instanceof JsonTextError);
        assert.equal(error.message, sentence);
        return true;
      },
    );
  });
}

test('a text of brackets without end is an error and no crash', () => {
  assert.throws(() => parseJsonText('['.repeat(1_000_000)), JsonTextError);
  assert.throws(() => parseJsonText('{"a":'.repeat(100_000)), JsonTextError);
});

test('half of a surrogate pair and unknown escapes are errors', () => {
  for (const text of [String.raw`"\ud800"`, String.raw`"\x41"`, String.raw`"\u00"`, String.raw`"\u0000"`]) {
    assert.throws(() => parseJsonText(text), JsonTextError, text);
  }
});
