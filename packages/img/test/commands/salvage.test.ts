import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { nbdkit, qemuImg, requires, temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

const fails = 'if [ $4 -le 131072 ] && [ $(($4 + $3)) -gt 131072 ]; then echo EIO bad >&2; exit 1; fi';
const reads = `pread=${fails}; dd if=/dev/zero bs=$3 count=1 status=none | tr '\\0' x`;

test(
  '--salvage copies zeros for what a server cannot read, and says what was lost as qemu-img does',
  requires('qemu-img', 'nbdkit'),
  async () => {
    await using folder = await temporaryFolder();
    const [socket, ours, theirs] = ['socket', 'ours', 'theirs'].map((name) => folder.file(name)) as [
      string,
      string,
      string,
    ];
    await using _ = await nbdkit(socket, ['eval', 'get_size=echo 1048576', reads]);
    const uri = `nbd+unix:///?socket=${socket}`;
    const found = await img('convert', '--salvage', uri, ours);
    const real = await qemuImg.run('convert', '--salvage', uri, theirs);
    const stderr = real.stderr.replaceAll('qemu-img', 'img');
    assert.deepEqual(found, { status: 0, stdout: '', stderr });
    assert.match(stderr, /offset 131072: Input\/output error\n$/);
    assert.ok((await readFile(ours)).equals(await readFile(theirs)));
    assert.deepEqual(await img('convert', '-q', '--salvage', uri, ours), {
      status: 0,
      stdout: '',
      stderr: '',
    });
    // Without it the first failure ends the command.
    assert.equal((await img('convert', uri, ours)).status, 1);
  },
);

test('a server that goes away is not salvaged', requires('nbdkit'), async () => {
  await using folder = await temporaryFolder();
  const socket = folder.file('socket');
  const dies = 'pread=kill -9 $PPID; exit 1';
  await using _ = await nbdkit(socket, ['eval', 'get_size=echo 1048576', dies]);
  const { status } = await img('convert', '--salvage', `nbd+unix:///?socket=${socket}`, folder.file('copy'));
  assert.equal(status, 1);
});
