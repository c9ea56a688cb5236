import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandArguments } from '../../src/control/typed-arguments.ts';

test('keys with dots lead into objects and lists, and values are what they look like', () => {
  const words = [
    'type=nbd',
    'writable=true',
    'size=1048576',
    'backing=null',
    'name="5"',
    'bitmaps.0=b0',
    'bitmaps.1.node=n,bitmaps.1.name=b1',
    'text=a,,b',
    'empty=',
    'big=18446744073709551615',
    'word=007',
  ];
  assert.deepEqual(commandArguments(words), {
    type: 'nbd',
    writable: true,
    size: 1_048_576,
    backing: null,
    name: '5',
    bitmaps: ['b0', { node: 'n', name: 'b1' }],
    text: 'a,b',
    empty: '',
    big: 18_446_744_073_709_551_615n,
    word: '007',
  });
  assert.deepEqual(commandArguments([]), {});
});

test('one JSON object is all arguments, with single quotes too', () => {
  assert.deepEqual(commandArguments([`{'a': [1, null, "x"], 'b': {'c': true}}`]), {
    a: [1, null, 'x'],
    b: { c: true },
  });
});

test('what are no arguments is refused in a sentence', () => {
  const cases = [
    [['x'], /Expected '=' after parameter 'x'/],
    [['a=1', 'b'], /Expected '=' after parameter 'b'/],
    [['{"a": 1', 'b=2'], /one JSON object, or key=value/],
    [['{"a": 1'], /JSON parse error/],
    [['a.0=1', 'a.2=1'], /'a.1' missing/],
    [['a=1', 'a.b=1'], /used inconsistently/],
  ] as const;
  for (const [words, sentence] of cases) assert.throws(() => commandArguments(words), sentence);
});
