import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { main } from '../src/cli.ts';
import { recordingTerminal } from './recording-terminal.ts';

const verbs = ['create', 'info', 'map', 'commit', 'convert', 'compare', 'check', 'snapshot', 'serve'];

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

test('the help names every verb, and long options may be cut short', async () => {
  for (const word of ['--help', '-h', '--he']) {
    const { status, stdout, stderr } = await img(word);
    assert.deepEqual([status, stderr], [0, '']);
    for (const verb of verbs) assert.match(stdout, new RegExp(`^ {2}${verb} +\\w`, 'm'));
  }
});

test('every verb has a help of its own that lists its options and operands', async () => {
  for (const verb of verbs) {
    const { status, stdout, stderr } = await img(verb, 'x', '--help', '--bogus');
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, new RegExp(`^Usage: img ${verb} \\[OPTION\\]\\.\\.\\. \\S`));
    assert.match(stdout, /^ {2}-h, --help {2}/m);
  }
});

test('the version is that of the package', async () => {
  const file = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string };
  assert.equal((await img('--version')).stdout, `img ${version}\n`);
  assert.equal((await img('-V')).stdout, `img ${version}\n`);
});

test('names that every object has are no verbs', async () => {
  for (const name of ['constructor', 'toString', '__proto__']) {
    const { status, stderr } = await img(name);
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`^img: Command not found: ${name}\n`));
  }
});

test('an option that is not there yet is refused by its name', async () => {
  for (const words of [
    ['serve', '-c', '/dev/nbd0', 'x'],
    ['serve', '--selinux-label', 'l', 'x'],
  ]) {
    const { status, stdout, stderr } = await img(...words);
    assert.deepEqual([status, stdout], [1, '']);
    assert.equal(stderr, `img: option '${words[1]}' is not supported yet\n`);
  }
});
