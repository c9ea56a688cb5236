import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseOptionString } from '../../src/typed/option-string.ts';

/** What QEMU makes of each was seen with `qemu-img map --image-opts`. */
const read: readonly (readonly [text: string, options: Readonly<Record<string, string>>])[] = [
  ['', {}],
  ['driver=qcow2,file.filename=x', { driver: 'qcow2', 'file.filename': 'x' }],
  ['file.filename=a,,b', { 'file.filename': 'a,b' }],
  ['a=1,a=2,', { a: '2' }],
  ['driver=qcow2,,file.filename=x', { driver: 'qcow2,file.filename=x' }],
  ['driver=x,lazy-refcounts,noread-only', { driver: 'x', 'lazy-refcounts': 'on', 'read-only': 'off' }],
  ['node0', { file: 'node0' }],
  ['node,,0,driver=raw', { file: 'node,0', driver: 'raw' }],
  [',', { file: '' }],
  ['driver=raw,id=x', { driver: 'raw' }],
];

for (const [text, options] of read) {
  test(`'${text}' is read`, () => {
    assert.deepEqual(Object.fromEntries(parseOptionString(text)), options);
  });
}
