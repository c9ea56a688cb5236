import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { printable, referencePath, schemeOf } from '../src/reference.ts';

test('a relative name is relative to the folder of the image that records it', () => {
  assert.equal(referencePath('base.qcow2', '/images/vm/top.qcow2'), '/images/vm/base.qcow2');
  assert.equal(referencePath('base.qcow2', 'top.qcow2'), 'base.qcow2');
  assert.equal(referencePath('/srv/base.qcow2', '/images/vm/top.qcow2'), '/srv/base.qcow2');
});

test('dots are left to the host: behind a symbolic link they lead elsewhere', () => {
  assert.equal(referencePath('../base.qcow2', '/images/vm/top.qcow2'), '/images/vm/../base.qcow2');
  assert.equal(referencePath('./a/../base.qcow2', 'vm/top.qcow2'), 'vm/./a/../base.qcow2');
});

const refused: readonly (readonly [string, string])[] = [
  ['a JSON description', 'json:{"driver":"nbd","host":"10.0.0.1"}'],
  ['an NBD server', 'nbd://169.254.169.254/x'],
  ['a web address', 'http://example.org/base.qcow2'],
  ['a file URI', 'file:///etc/passwd'],
  ['a file by its protocol', 'file:base.qcow2'],
  ['a folder as a FAT disk', 'fat:rw:/etc'],
  ['a remote shell', 'ssh://-oProxyCommand=x/y'],
  ['a Windows drive', 'C:\\base.qcow2'],
  ['nothing', ''],
  ['a NUL byte', 'base\0.qcow2'],
  ['an escape sequence', 'base\u001b[2J'],
  ['a name of 1024 characters', 'a'.repeat(1024)],
];
for (const [what, name] of refused) {
  test(`${what} is not a name that an image may record`, () => {
    assert.throws(
      () => referencePath(name, '/images/top.qcow2'),
      (error) => isDiskError(error, 'denied'),
    );
  });
}

test('a colon behind a slash is part of a file name', () => {
  assert.equal(schemeOf('./a:b'), undefined);
  assert.equal(referencePath('./a:b', '/images/top.qcow2'), '/images/./a:b');
});

test('text from an image is printed short and without control characters', () => {
  assert.equal(printable('a\u001b[2J\nb'), 'a\\x1b[2J\\x0ab');
  assert.equal(printable('x'.repeat(100)).length, 83);
});
