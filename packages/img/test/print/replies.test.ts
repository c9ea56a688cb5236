import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replyJson, replyText } from '../../src/print/replies.ts';

test('lists with few facts a row are tables', () => {
  const exports = [
    { id: 'e', type: 'nbd', 'node-name': 'disk0', 'shutting-down': true },
    { id: 'longer', type: 'nbd', 'node-name': 'd', 'shutting-down': false },
  ];
  assert.equal(
    replyText('query-block-exports', exports),
    [
      'ID      NODE   TYPE  STATE',
      'e       disk0  nbd   shutting down',
      'longer  d      nbd   offered',
      '',
    ].join('\n'),
  );
  const bitmaps = [{ name: 'b1' }, { name: 'b0' }];
  const node = {
    'node-name': 'n',
    drv: 'qcow2',
    ro: false,
    file: '/x',
    image: { 'virtual-size': 1024 ** 3 },
  };
  assert.equal(
    replyText('query-named-block-nodes', [{ ...node, 'dirty-bitmaps': bitmaps }]),
    'NODE  DRIVER  ACCESS  SIZE   BITMAPS  FILE\nn     qcow2   write   1 GiB  b1,b0    /x\n',
  );
  assert.equal(replyText('query-commands', [{ name: 'quit' }, { name: 'abort' }]), 'abort\nquit\n');
});

test('names cannot move the cursor', () => {
  const told = replyText('query-block-exports', [{ id: 'a\u001b[2J\n', type: 'nbd', 'node-name': 'n' }]);
  assert.equal(told?.split('\n')[1], 'a\\u001b[2J\\n  n     nbd   offered');
});

test('all else is JSON, in the order of the server', () => {
  for (const reply of [{}, [1], 'x', null]) assert.equal(replyText('query-block-exports', reply), undefined);
  assert.equal(replyText('toString', []), undefined);
  assert.equal(
    replyJson({ b: 1, a: [null, 2n ** 60n] }),
    '{\n    "b": 1,\n    "a": [\n        null,\n        1152921504606847000\n    ]\n}\n',
  );
});
