import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDiskError } from '@strata/block';
import { nbdkit, qemuImg, qemuNbd, requires, temporaryFolder } from '@strata/testkit';
import { listExports, listNegotiation } from '../../src/client/list.ts';
import { be, converse, hex, reply, server, utf8 } from './script.ts';

const line = (name: string, description = ''): Buffer =>
  reply(3, 2, be(Buffer.byteLength(name), 4) + utf8(name) + utf8(description));
const list = (...replies: readonly Buffer[]) =>
  converse(listNegotiation(), server(3, { 3: Buffer.concat(replies) }));

test('a list is asked for, read to its end, and left with ABORT', () => {
  const { result, sent } = list(line('a', 'first'), line(''), reply(3, 1));
  assert.deepEqual(result, [
    { name: 'a', description: 'first' },
    { name: '', description: undefined },
  ]);
  assert.deepEqual(sent, [
    hex('00000003'),
    hex('49484156454f5054 00000003 00000000'),
    hex('49484156454f5054 00000002 00000000'),
  ]);
});

test('a list without an end is refused', () => {
  const endless = Buffer.concat(Array.from({ length: 10_001 }, () => line('a')));
  assert.throws(
    () => list(endless, reply(3, 1)),
    (error) => isDiskError(error, 'limit'),
  );
});

test('CVE-2017-2630: a reply of 4 GiB is refused before anything is made room for', () => {
  assert.throws(
    () => list(hex('0003e889045565a9 00000003 00000002 ffffffff')),
    (error) => isDiskError(error, 'protocol'),
  );
});

test('a name longer than its reply is refused', () => {
  assert.throws(
    () => list(reply(3, 2, 'ffffffff 61'), reply(3, 1)),
    (error) => isDiskError(error, 'protocol'),
  );
});

test('a server that keeps its list to itself is denied', () => {
  assert.throws(
    () => list(reply(3, 0x80000002)),
    (error) => isDiskError(error, 'denied'),
  );
});

test('a server that is not fixed newstyle has no list', () => {
  assert.throws(
    () => converse(listNegotiation(), server(0, {})),
    (error) => isDiskError(error, 'not-supported'),
  );
});

test('qemu-nbd lists its export with the description', requires('qemu-img', 'qemu-nbd'), async () => {
  await using folder = await temporaryFolder();
  await qemuImg.create(folder.file('a.raw'), '1M', { format: 'raw' });
  const args = ['-f', 'raw', '-x', 'disk', '-D', 'a small disk'];
  await using _server = await qemuNbd(folder.file('a.raw'), folder.file('s'), args);
  assert.deepEqual(await listExports({ path: folder.file('s') }), [
    { name: 'disk', description: 'a small disk' },
  ]);
});

test('nbdkit lists the exports of its filter', requires('nbdkit'), async () => {
  await using folder = await temporaryFolder();
  const args = [
    '--filter=exportname',
    'memory',
    '1M',
    'exportname-list=explicit',
    'exportname=a',
    'exportname=b c',
  ];
  await using _server = await nbdkit(folder.file('s'), args);
  assert.deepEqual(await listExports({ path: folder.file('s') }), [
    { name: 'a', description: undefined },
    { name: 'b c', description: undefined },
  ]);
});
