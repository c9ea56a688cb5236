import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { requires, run, runOk, temporaryFolder } from '@strata/testkit';
import { main } from '../../src/cli.ts';
import { recordingTerminal } from '../recording-terminal.ts';

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

const done = { status: 0, stdout: '', stderr: '' };
const tool = requires('losetup');
const probe = tool.skip ? undefined : await run('losetup', ['--find']);
const needs = probe && probe.status !== 0 ? { skip: `no loop device: ${probe.stderr.trim()}` } : tool;

test(
  'a device that held something else reads as the source afterwards, and keeps what lies behind it',
  needs,
  async () => {
    await using folder = await temporaryFolder();
    const [held, source] = [folder.file('held'), folder.file('source')];
    const old = randomBytes(1 << 20);
    writeFileSync(held, old);
    const bytes = Buffer.alloc(256 << 10);
    bytes.fill(randomBytes(4096), 64 << 10, 128 << 10);
    writeFileSync(source, bytes);
    const device = (await runOk('losetup', ['--find', '--show', held])).trim();
    try {
      assert.deepEqual(await img('convert', '-f', 'raw', source, device), done);
      assert.deepEqual(readFileSync(device), Buffer.concat([bytes, old.subarray(bytes.length)]));
      assert.deepEqual(await img('convert', '-f', 'raw', '-O', 'qcow2', source, device), done);
      assert.equal((await img('compare', '-f', 'raw', source, device)).stdout, 'Images are identical.\n');
      truncateSync(source, 2 << 20);
      const sentence = `img: ${device}: error while converting raw: Cannot grow device files\n`;
      assert.deepEqual(await img('convert', '-f', 'raw', source, device), {
        ...done,
        status: 1,
        stderr: sentence,
      });
    } finally {
      await runOk('losetup', ['--detach', device]);
    }
  },
);

test('an image that could not be made leaves no file behind, and one that was there as it was', async () => {
  await using folder = await temporaryFolder();
  const [source, target] = [folder.file('source'), folder.file('target')];
  writeFileSync(source, Buffer.alloc(4096, 7));
  const words = ['convert', '-O', 'qcow2', '-o', 'cluster_size=1000', source, target];
  assert.equal((await img(...words)).status, 1);
  assert.equal(existsSync(target), false);
  writeFileSync(target, 'precious');
  assert.equal((await img(...words)).status, 1);
  assert.equal(readFileSync(target, 'utf8'), 'precious');
});

test('a source that is also the target is refused, and stays as it was', async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('image');
  const bytes = randomBytes(64 << 10);
  writeFileSync(image, bytes);
  const { status, stderr } = await img('convert', '-f', 'raw', image, image);
  assert.equal(status, 1);
  assert.match(stderr, /Failed to get "(write|resize)" lock/);
  assert.deepEqual(readFileSync(image), bytes);
});
