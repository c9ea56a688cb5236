import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { qemuImg, qemuIo, qemuNbd, requires, temporaryFolder } from '@strata/testkit';
import { main } from '../src/cli.ts';
import { recordingTerminal } from './recording-terminal.ts';

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

/** Both say the same; `words` are the same line for both. */
async function alike(...words: readonly string[]): Promise<void> {
  const ours = await img(...words);
  const theirs = await qemuImg.run(...words);
  const stderr = theirs.stderr.replaceAll('qemu-img', 'img');
  assert.deepEqual(ours, { status: theirs.status, stdout: theirs.stdout, stderr }, words.join(' '));
}

const tools = requires('qemu-img', 'qemu-io', 'qemu-nbd');

test('an export is read as qemu-img reads it', tools, async () => {
  await using folder = await temporaryFolder();
  const image = folder.file('disk.qcow2');
  await qemuImg.create(image, '2M');
  await qemuIo(image, ['write -P 1 0 64k', 'write -P 2 1M 128k', 'write -z 512k 64k']);
  await using _ = await qemuNbd(image, folder.file('socket'), ['-f', 'qcow2', '-r', '-x', 'a name']);
  const uri = `nbd+unix:///a%20name?socket=${folder.file('socket')}`;
  for (const words of [
    ['info', uri],
    ['info', '--output=json', uri],
    ['info', '--backing-chain', uri],
    ['info', '-f', 'qcow2', uri],
    ['map', '--output=json', uri],
    ['map', uri],
    ['check', uri],
    ['compare', '-F', 'raw', image, uri],
    ['commit', '-f', 'raw', uri],
    ['info', `nbd+unix:///?socket=${folder.file('nowhere')}`],
    ['info', `nbd:unix:${folder.file('socket')}:exportname=a name`],
  ]) {
    await alike(...words);
  }
  const other = `nbd+unix:///other?socket=${folder.file('socket')}`;
  const { status, stderr } = await img('info', other);
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^img: Could not open 'nbd[^']*': Requested export not available .*'other' not present/,
  );
});

test('a qcow2 image may lie in an export, be it read or written', tools, async () => {
  await using folder = await temporaryFolder();
  const [image, raw] = [folder.file('disk.qcow2'), folder.file('disk.raw')];
  await qemuImg.create(image, '2M');
  await qemuIo(image, ['write -P 1 0 64k', 'write -P 2 1M 128k']);
  await qemuImg.ok('resize', '-q', '-f', 'raw', image, '4M');
  await using _ = await qemuNbd(image, folder.file('socket'), ['-f', 'raw']);
  const uri = `nbd+unix:///?socket=${folder.file('socket')}`;
  for (const words of [
    ['info', uri],
    ['map', '--output=json', uri],
    ['check', uri],
  ]) {
    await alike(...words);
  }
  await qemuImg.create(raw, '1M', { format: 'raw' });
  await qemuIo(raw, ['write -P 9 128k 256k'], 'raw');
  assert.deepEqual(await img('convert', '-n', '-O', 'qcow2', raw, uri), {
    status: 0,
    stdout: '',
    stderr: '',
  });
  await alike('compare', '-f', 'raw', raw, uri);
  assert.equal((await img('check', uri)).status, 0);
});

test('an export is written to with -n', tools, async () => {
  await using folder = await temporaryFolder();
  const [raw, target] = [folder.file('disk.raw'), folder.file('target.raw')];
  await qemuImg.create(raw, '3M', { format: 'raw' });
  await qemuIo(raw, ['write -P 9 128k 1M'], 'raw');
  await qemuImg.create(target, '3M', { format: 'raw' });
  await qemuIo(target, ['write -P 1 0 3M'], 'raw');
  await using _ = await qemuNbd(target, folder.file('socket'), ['-f', 'raw']);
  const uri = `nbd+unix:///?socket=${folder.file('socket')}`;
  assert.deepEqual(await img('convert', '-n', raw, uri), { status: 0, stdout: '', stderr: '' });
  await alike('compare', '-f', 'raw', '-F', 'raw', raw, uri);
  assert.equal((await img('compare', '-f', 'raw', '-F', 'raw', raw, uri)).status, 0);
});

test('every line of the map of an export names it alike, whatever its depth', tools, async () => {
  await using folder = await temporaryFolder();
  const [base, over] = [folder.file('base'), folder.file('over')];
  await qemuImg.create(base, '1M');
  await qemuIo(base, ['write -P 1 0 128k']);
  await qemuImg.ok('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', over);
  await qemuIo(over, ['write -P 2 64k 64k']);
  await using _ = await qemuNbd(over, folder.file('socket'), ['-f', 'qcow2', '-r', '-A', '-x', 'a name']);
  const { stdout } = await img('map', `nbd+unix:///a%20name?socket=${folder.file('socket')}`);
  const [, ...lines] = stdout.trimEnd().split('\n');
  assert.equal(lines.length, 2);
  const files = lines.map((line) => line.slice(48));
  assert.deepEqual(new Set(files), new Set([`nbd+unix:///a name?socket=${folder.file('socket')}`]));
});

test('measure and dd take exports as qemu-img takes them', tools, async () => {
  await using folder = await temporaryFolder();
  const [image, ours, theirs] = ['disk.qcow2', 'ours.raw', 'theirs.raw'].map((name) => folder.file(name)) as [
    string,
    string,
    string,
  ];
  await qemuImg.create(image, '2M');
  await qemuIo(image, ['write -P 1 0 64k', 'write -P 2 1M 128k']);
  await using _ = await qemuNbd(image, folder.file('socket'), ['-f', 'qcow2', '-r']);
  const uri = `nbd+unix:///?socket=${folder.file('socket')}`;
  await alike('measure', '-f', 'raw', '-O', 'qcow2', uri);
  await alike('measure', '-f', 'raw', '-O', 'raw', '--output=json', uri);
  const words = ['dd', '-f', 'raw', '-O', 'raw', 'bs=64k', 'skip=2', 'count=20', `if=${uri}`];
  assert.deepEqual(await img(...words, `of=${ours}`), { status: 0, stdout: '', stderr: '' });
  await qemuImg.ok(...words, `of=${theirs}`);
  await qemuImg.compare(ours, 'raw', theirs, 'raw');
  assert.equal(readFileSync(ours)[(1 << 20) - 131_072], 2);
});
