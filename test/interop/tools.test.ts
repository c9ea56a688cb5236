import assert from 'node:assert/strict';
import { test } from 'node:test';
import { qemuImg, requires } from '@strata/testkit';

test('the reference qemu-img is a 7.2', requires('qemu-img'), async () => {
  assert.match(await qemuImg.ok('--version'), /^qemu-img version 7\.2\./);
});
