import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFrom } from '@strata/testkit';
import { isObject, type Json } from '../src/json.ts';
import { JsonStream, type Message } from '../src/json-stream.ts';
import { requestLimits } from '../src/limits.ts';

function messagesOf(chunks: readonly Buffer[], limits = requestLimits): readonly Message[] {
  const stream = new JsonStream(limits);
  return chunks.flatMap((chunk) => [...stream.read(chunk)]);
}

const text = Buffer.from(
  ` {"a": [1, -2.5e3, true, null, "x\\u00e9\\ud83d\\ude00\\n"], 'b\\'': {"ä": ""}}\n[] 7 "s"'t'nul 01,{"x":1}`,
);

test('messages are the same wherever the stream is cut', () => {
  const whole = messagesOf([text]);
  assert.deepEqual(whole, [
    { value: { a: [1, -2500, true, null, 'xé😀\n'], "b'": { ä: '' } } },
    { value: [] },
    { value: 7 },
    { value: 's' },
    { value: 't' },
    { error: "JSON parse error, invalid keyword 'nul'" },
    { error: "JSON parse error, stray '01'" },
    { error: 'JSON parse error, expecting value' },
    { value: { x: 1 } },
  ]);
  for (let cut = 0; cut <= text.length; cut++) {
    assert.deepEqual(messagesOf([text.subarray(0, cut), text.subarray(cut)]), whole, `cut at ${cut}`);
  }
  assert.deepEqual(messagesOf(Array.from(text, (byte) => Buffer.from([byte]))), whole);
});

test('a number that JavaScript cannot hold stays what it is, up to 64 bits', () => {
  const numbers =
    '[9007199254740991,9007199254740993,-9223372036854775808,18446744073709551615,18446744073709551616]';
  assert.deepEqual(messagesOf([Buffer.from(numbers)]), [
    {
      value: [
        9_007_199_254_740_991,
        9_007_199_254_740_993n,
        -9_223_372_036_854_775_808n,
        18_446_744_073_709_551_615n,
        2 ** 64,
      ],
    },
  ]);
});

test('a limit ends the stream, whatever comes after', () => {
  const limits = { bytes: 20, tokens: 10, depth: 3 };
  const cases = [
    ['"012345678901234567890', 'JSON token size limit exceeded'],
    ['["0123456789", "0123456789"]', 'JSON token size limit exceeded'],
    ['[1,2,3,4,5,6]', 'JSON token count limit exceeded'],
    ['[[[[', 'JSON nesting depth limit exceeded'],
    ['{"a":{"b":{"c":{', 'JSON nesting depth limit exceeded'],
  ] as const;
  for (const [sent, error] of cases) {
    assert.deepEqual(messagesOf([Buffer.from(sent), Buffer.from('{}')], limits), [{ error, last: true }]);
  }
  assert.deepEqual(messagesOf([Buffer.from('[[[]]] [[[]]] "01234567890123456"')], limits).length, 3);
});

test('what is no JSON is repeated to a bound only', () => {
  const [message] = messagesOf([Buffer.from(`"${'x'.repeat(10_000)}\u0001`)]);
  assert.ok(message !== undefined && 'error' in message && message.error.length < 400);
});

test('the end of a stream ends what has begun', () => {
  const cases = [
    ['12', [{ value: 12 }]],
    ['tru', [{ error: "JSON parse error, invalid keyword 'tru'" }]],
    ['"a', [{ error: `JSON parse error, stray '"a'` }]],
    ['-', [{ error: "JSON parse error, stray '-'" }]],
    ['[1, 2', [{ error: 'JSON parse error, premature EOI' }]],
    ['{} ', []],
    ['', []],
  ] as const;
  for (const [sent, expected] of cases) {
    const stream = new JsonStream(requestLimits);
    const before = [...stream.read(Buffer.from(sent))];
    assert.deepEqual([...stream.end()], expected, sent);
    assert.deepEqual(before, sent.startsWith('{') ? [{ value: {} }] : []);
  }
});

test('what JSON.parse reads is read alike, and nothing is read otherwise when it is cut elsewhere', () => {
  const seed = 11;
  const random = randomFrom(seed);
  const corpus = [
    '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n","name":"b","granularity":65536},"id":7}',
    `{'a':[1,-2.5e3,true,null,"x\\u00e9\\ud83d\\ude00\\n"],"b":{"ä":[[],{}]}}`,
    '[0.5, 1E+2, -0, "\\\\\\"/\\b\\f\\r\\t", false]{"x":"\u007f€"}\n',
  ];
  const marks = Buffer.from(`{}[]:,"'\\ue01-.x\n\u0000ÿ`, 'latin1');
  for (let run = 0; run < 3000; run++) {
    const bytes = Buffer.from(corpus[random.upTo(corpus.length - 1)] as string);
    for (let change = random.upTo(4); change > 0; change--) {
      bytes[random.upTo(bytes.length - 1)] = marks[random.upTo(marks.length - 1)] as number;
    }
    const whole = wholly([bytes]);
    const cut = random.upTo(bytes.length);
    const about = `seed ${seed}, run ${run}: ${bytes.toString('latin1')}`;
    assert.deepEqual(wholly([bytes.subarray(0, cut), bytes.subarray(cut)]), whole, about);
    const parsed = parsedByNode(bytes);
    if (parsed !== undefined) assert.deepEqual(whole, [parsed], about);
  }
});

function wholly(chunks: readonly Buffer[]): readonly Message[] {
  const stream = new JsonStream(requestLimits);
  return [...chunks.flatMap((chunk) => [...stream.read(chunk)]), ...stream.end()];
}

/** The one value that a text is; undefined if it is none, or one that QEMU refuses: duplicate keys, bytes that are no UTF-8. */
function parsedByNode(bytes: Buffer): Message | undefined {
  const text = bytes.toString('utf8');
  if (text.includes('\ufffd') || /\\ud[89a-f]/i.test(text)) return undefined;
  try {
    const value = JSON.parse(text) as Json;
    return isObject(value) || Array.isArray(value) ? { value } : undefined;
  } catch {
    return undefined;
  }
}
