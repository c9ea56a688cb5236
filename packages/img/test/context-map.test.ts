import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type NbdExtent,
  nbdinfo,
  qemuImg,
  qemuIo,
  qemuNbd,
  requires,
  run,
  runOk,
  temporaryFolder,
} from '@strata/testkit';
import { main } from '../src/cli.ts';
import { recordingTerminal } from './recording-terminal.ts';

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

/** As nbdinfo prints them, neighbours that are alike joined. */
function joined(extents: readonly NbdExtent[]): readonly NbdExtent[] {
  const all: NbdExtent[] = [];
  for (const extent of extents) {
    const last = all.at(-1);
    if (last?.type === extent.type) all[all.length - 1] = { ...last, length: last.length + extent.length };
    else all.push(extent);
  }
  return all;
}

const tools = requires('qemu-img', 'qemu-io', 'qemu-nbd', 'nbdinfo');

test(
  'map --context shows what nbdinfo --map shows, of an export and of the image itself',
  tools,
  async () => {
    await using folder = await temporaryFolder();
    const [base, top] = [folder.file('base.qcow2'), folder.file('top.qcow2')];
    await qemuImg.create(base, '2M');
    await qemuIo(base, ['write -P 1 0 64k', 'write -P 1 1M 128k']);
    await qemuImg.create(top, '2M', { backing: { name: base, format: 'qcow2' } });
    await qemuIo(top, ['write -P 2 64k 64k', 'write -z 512k 64k']);
    await qemuImg.ok('bitmap', '--add', top, 'marks');
    await qemuIo(top, ['write -P 2 1536k 64k']);
    await using _ = await qemuNbd(top, folder.file('s'), ['-f', 'qcow2', '-r', '-A', '-B', 'marks']);
    const uri = `nbd+unix:///?socket=${folder.file('s')}`;
    for (const context of ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:marks']) {
      const theirs = joined(await nbdinfo.map(uri, context));
      const ours = await img('map', '--context', context, '--output=json', uri);
      assert.deepEqual(JSON.parse(ours.stdout), theirs);
      const text = await img('map', `--context=${context}`, uri);
      assert.equal(text.stdout, await runOk('nbdinfo', [`--map=${context}`, uri]));
      if (context.startsWith('base') || context.endsWith('depth')) {
        assert.deepEqual(await img('map', '--context', context, top), text);
      }
    }
    const part = await img('map', '--context', 'base:allocation', '-s', '96k', '-l', '64k', uri);
    assert.equal(part.stdout, '     98304       32768    0  data\n    131072       32768    3  hole,zero\n');
    for (const name of [uri, top]) {
      const { status, stdout, stderr } = await img('map', '--context', 'foo:bar', name);
      assert.deepEqual([status, stdout], [1, '']);
      assert.match(
        stderr,
        /^img: Could not read metadata context 'foo:bar': .*no metadata context 'foo:bar'/,
      );
    }
    assert.equal((await run('nbdinfo', ['--map=foo:bar', uri])).status, 1);
  },
);
