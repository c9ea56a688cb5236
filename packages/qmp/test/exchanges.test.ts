/** One table of exchanges, run against the real qemu-storage-daemon and against us: the replies are the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requires, serve, temporaryFolder } from '@strata/testkit';
import { command } from '../src/command.ts';
import { isObject } from '../src/json.ts';
import { choice, either, flag, isText, list, optional, record, text, uint32, union } from '../src/schema.ts';
import { type RawQmp, rawQmp, serving } from './serving.ts';

const tools = requires('qemu-storage-daemon');

/** What is sent, before and after the negotiation. */
const early: readonly string[] = [
  '{"execute":"query-version"}',
  '{"execute":"nope","id":1}',
  '{"execute":"qmp_capabilities","arguments":{"enable":["foo"]}}',
  '{"execute":"qmp_capabilities","arguments":{"enable":"oob"}}',
  '{"execute":"qmp_capabilities","arguments":{"bar":1},"id":1}',
  '{"execute":',
  '5}',
  '{"execute":"qmp_capabilities","id":{"a":[1,2.5,null,true,"x\\u00e4"]}}',
];

const late: readonly (string | Buffer)[] = [
  '{"execute":"qmp_capabilities"}',
  "{'execute':'nope','id':'s'}",
  "{'execute':'it\\'s \"so\"'}",
  '{"execute":"nope","arguments":{}}',
  '{"execute":"query-version","arguments":{"x":1}}',
  '{"execute":5,"id":3}',
  '{"exec":"x","id":3}',
  '{"execute":"query-version","foo":1}',
  '{"execute":"query-version","control":{"run-oob":true}}',
  '{"execute":"query-version","arguments":null}',
  '{"id":3}',
  '{}',
  '[]',
  '5 ',
  '"abc"',
  'nul\n',
  '{"execute":"nope","id":7',
  '}',
  '{"execute":"nope","id":8}{"execute":"nope","id":9}  {"execute":"nope"}',
  '{"execute":"nope","execute":"nope"}',
  '{"execute":"nope",,}',
  '{"execute":"nope","id":"\\u0000"}',
  '{"execute":"nope","id":"\\ud83d\\ude00"}',
  '{"execute":"nope","id":"\\ud83dx"}',
  '{"execute":"nope","id":"\\u00g1"}',
  '{"execute":"no\\xpe"}',
  '{"execute":"n\\u00e9"}',
  Buffer.from('{"execute":"né"}'),
  Buffer.from('7b2265786563757465223a22c328227d', 'hex'),
  Buffer.from('7b2265786563757465223a22c3280022', 'hex'),
  '}\n',
  Buffer.from([0xff]),
  '{"execute":"nope","id":1}',
  '{"execute":"nope","id":1000}',
  '{"execute":"nope","id":-5}',
  '{"execute":"nope","id":18446744073709551615}',
  '{"execute":"nope","id":-9223372036854775808}',
  '{"execute":"nope","id":0.5}',
  '{"execute":"nope","id":1e3}',
  '{"a": 01, "b": 2}\n',
  '{"execute":"nope","id":99}',
  "[1, 'x\u0001', 2]\n",
  ']',
  '[[}',
  '{]',
  '{"a":1]',
  '[1}',
  '{execute:1}',
  '{"execute" "x"}',
  '{"execute":"x" 5}',
  '[1 2]',
  '{1:2}',
  '{"execute":}',
  '%d 1e5 -\n',
  '{"execute":"nope","id":96}',
  '{"execute":"block-dirty-bitmap-add"}',
  '{"execute":"block-dirty-bitmap-add","arguments":5}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":5,"name":"x"}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n"}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"name":"n"}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n","name":"b","granularity":"x"}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n","name":"b","granularity":-1}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n","name":"b","granularity":1.5}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n","name":"b","granularity":1e400}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n","name":"b","granularity":4294967296}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n","name":"b","persistent":"on"}}',
  '{"execute":"block-dirty-bitmap-add","arguments":{"node":"n","name":"b","x":1}}',
  '{"execute":"block-dirty-bitmap-merge","arguments":{"node":"n","target":"b","bitmaps":[5]}}',
  '{"execute":"block-dirty-bitmap-merge","arguments":{"node":"n","target":"b","bitmaps":{}}}',
  '{"execute":"block-dirty-bitmap-merge","arguments":{"node":"n","target":"b","bitmaps":[{"node":"n"}]}}',
  '{"execute":"block-dirty-bitmap-merge","arguments":{"node":"n","target":"b","bitmaps":["a",{"node":"n","name":"b","z":1}]}}',
  '{"execute":"block-export-del","arguments":{"id":"e","mode":"foo"}}',
  '{"execute":"block-export-del","arguments":{"id":"e","mode":5}}',
  '{"execute":"transaction","arguments":{"actions":[{"type":"foo","data":{}}]}}',
  '{"execute":"transaction","arguments":{"actions":[{"type":5,"data":{}}]}}',
  '{"execute":"transaction","arguments":{"actions":[{"data":{}}]}}',
  '{"execute":"transaction","arguments":{"actions":[{"type":"block-dirty-bitmap-clear"}]}}',
  '{"execute":"transaction","arguments":{"actions":[{"type":"block-dirty-bitmap-clear","data":{"node":"n"}}]}}',
  '{"execute":"transaction","arguments":{"actions":[{"type":"abort","data":5}]}}',
  '{"execute":"transaction","arguments":{"actions":5}}',
  '{"execute":"transaction","arguments":{"actions":[5]}}',
  '{"execute":"transaction","arguments":{"actions":[{"type":"abort","data":{"x":1}}]}}',
  '{"execute":"transaction","arguments":{"actions":[{"type":"abort","data":{},"z":1}]}}',
  '{"execute":"transaction","arguments":{"actions":[],"properties":{"completion-mode":"foo"}}}',
];

/** Rows with the daemon's arguments: none of them gets as far as being carried out. */
const rows = [
  command(
    'block-dirty-bitmap-add',
    {
      node: text,
      name: text,
      granularity: optional(uint32),
      persistent: optional(flag),
      disabled: optional(flag),
    },
    () => assert.fail(),
  ),
  command(
    'block-dirty-bitmap-merge',
    {
      node: text,
      target: text,
      bitmaps: list(
        either('BlockDirtyBitmapOrStr', isText, text, isObject, record({ node: text, name: text })),
      ),
    },
    () => assert.fail(),
  ),
  command('block-export-del', { id: text, mode: optional(choice('safe', 'hard')) }, () => assert.fail()),
  command(
    'transaction',
    {
      actions: list(
        union(
          'type',
          {},
          {
            abort: { data: record({}) },
            'block-dirty-bitmap-clear': { data: record({ node: text, name: text }) },
          },
        ),
      ),
      properties: optional(record({ 'completion-mode': optional(choice('individual', 'grouped')) })),
    },
    () => assert.fail(),
  ),
];

/** A command whose reply shows that all that came before has been answered. */
const mark = '\n{"execute":"nope","id":"mark"}';

/** Sends each text by itself and collects what comes back for it. */
async function exchange(peer: RawQmp, texts: readonly (string | Buffer)[]): Promise<readonly unknown[]> {
  const told: unknown[] = [];
  for (const sent of texts) {
    peer.send(sent);
    const isPart = typeof sent === 'string' && /[\d:]$/.test(sent);
    if (isPart) continue;
    peer.send(mark);
    for (;;) {
      const line = await peer.line();
      if (line === undefined) assert.fail(`hung up at ${sent}`);
      if (line['id'] === 'mark') break;
      told.push([sent.toString('latin1'), line]);
    }
  }
  return told;
}

test('mistakes and refusals are answered as the real daemon answers them, in its order', tools, async () => {
  await using folder = await temporaryFolder();
  const path = folder.file('qmp');
  const options = ['--chardev', `socket,id=m,server=on,wait=off,path=${path}`, '--monitor', 'chardev=m'];
  await using _daemon = await serve('qemu-storage-daemon', options, async () => {
    return await rawQmp(path).then(
      async (peer) => {
        await peer[Symbol.asyncDispose]();
        return true;
      },
      () => false,
    );
  });
  await using theirs = await rawQmp(path);
  await using ours = await serving(rows);
  await using peer = await rawQmp(ours.path);
  await Promise.all([theirs.line(), peer.line()]);
  for (const texts of [early, late]) {
    assert.deepEqual(await exchange(peer, texts), await exchange(theirs, texts));
  }
});

test('the greeting tells version and capabilities, of which there are none', async () => {
  await using ours = await serving();
  await using peer = await rawQmp(ours.path);
  const qemu = { major: 7, minor: 2, micro: 0 };
  assert.deepEqual(await peer.line(), { QMP: { version: { qemu, package: 'test' }, capabilities: [] } });
  peer.send('{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}');
  const desc = 'Capability oob not available';
  assert.deepEqual(await peer.line(), { error: { class: 'GenericError', desc } });
  peer.send('{"execute":"qmp_capabilities"}{"execute":"query-version"}{"execute":"query-commands"}');
  assert.deepEqual(await peer.line(), { return: {} });
  assert.deepEqual(await peer.line(), { return: { qemu, package: 'test' } });
  const names = ['query-version', 'query-commands', 'qmp_capabilities'].map((name) => ({ name }));
  assert.deepEqual(await peer.line(), { return: names });
});

test('who sends its last command and stops sending gets all replies', async () => {
  await using ours = await serving();
  await using peer = await rawQmp(ours.path);
  peer.send('{"execute":"qmp_capabilities"}{"execute":"query-version","id":1}');
  peer.end();
  const ids: unknown[] = [];
  for (let line = await peer.line(); line !== undefined; line = await peer.line()) ids.push(line['id']);
  assert.deepEqual(ids, [undefined, undefined, 1]);
});
