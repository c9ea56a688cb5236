import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatJson } from '../../src/print/json.ts';

test("members stand in the order of QEMU's hash table, whatever the order they were given in", () => {
  // As qemu-img 7.2.22 prints a qcow2 image with a backing file.
  const printed = [
    'backing-filename-format',
    'virtual-size',
    'filename',
    'cluster-size',
    'format',
    'actual-size',
    'format-specific',
    'full-backing-filename',
    'backing-filename',
    'dirty-flag',
  ];
  const object = Object.fromEntries([...printed].sort().map((key) => [key, 0]));
  assert.deepEqual(Object.keys(JSON.parse(formatJson(object)) as object), printed);
});

test('objects and lists are indented by four spaces, also empty ones', () => {
  const text = formatJson({ flags: [], name: 'b', list: [{ name: 1 }, {}] });
  assert.equal(
    text,
    [
      '{',
      '    "flags": [',
      '    ],',
      '    "name": "b",',
      '    "list": [',
      '        {',
      '            "name": 1',
      '        },',
      '        {',
      '        }',
      '    ]',
      '}',
      '',
    ].join('\n'),
  );
});

test('a member without a value is left out', () => {
  assert.equal(formatJson({ name: undefined, format: false }), '{\n    "format": false\n}\n');
});

test('everything but printable ASCII is escaped with upper-case digits, in UTF-16 units', () => {
  // As qemu-img 7.2.22 prints a file of this name.
  const name = 'a\tb"c\\d\u007f\u00e9\u{1f600}\u0001<\ufffd\b\f\r\n&/';
  const printed = '"a\\tb\\"c\\\\d\\u007F\\u00E9\\uD83D\\uDE00\\u0001<\\uFFFD\\b\\f\\r\\n&/"\n';
  assert.equal(formatJson(name), printed);
});
