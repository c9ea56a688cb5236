/** Names of nodes, with QEMU's rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeNames } from '../src/node-names.ts';

test('names begin with a letter, have 31 characters at most, and are given once', () => {
  const names = new NodeNames();
  assert.equal(names.take('disk-0.a_B'), 'disk-0.a_B');
  const refusals: readonly (readonly [name: string, message: string])[] = [
    ['', "Invalid node-name: ''"],
    ['0a', "Invalid node-name: '0a'"],
    ['#block1', "Invalid node-name: '#block1'"],
    ['a b', "Invalid node-name: 'a b'"],
    ['disk-0.a_B', "Duplicate nodes with node-name='disk-0.a_B'"],
    ['n'.repeat(32), 'Node name too long'],
  ];
  for (const [name, message] of refusals) assert.throws(() => names.take(name), { message });
  assert.equal(names.take('n'.repeat(31)).length, 31);
  names.free('disk-0.a_B');
  names.take('disk-0.a_B');
});

test('generated names look like those of QEMU and never come twice', () => {
  const names = new NodeNames();
  const made = Array.from({ length: 300 }, () => names.generate());
  assert.equal(new Set(made).size, 300);
  for (const name of made) assert.match(name, /^#block\d{3,5}$/);
});
