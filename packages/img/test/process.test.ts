import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { run, temporaryFolder } from '@strata/testkit';
import { main } from '../src/cli.ts';
import { recordingTerminal } from './recording-terminal.ts';

const program = fileURLToPath(new URL('../src/bin.js', import.meta.url));
const launcher = fileURLToPath(new URL('../../bin/img.js', import.meta.url));
const bundled = existsSync(fileURLToPath(new URL('../img.cjs', import.meta.url)));

/** A raw image of `count` runs of data with holes between them: its map is long. */
function fragmented(path: string, count: number): void {
  const bytes = Buffer.alloc(count * 8192);
  for (let at = 0; at < bytes.length; at += 8192) bytes.fill(1, at, at + 4096);
  writeFileSync(path, bytes);
}

async function convertedMap(folder: { file(name: string): string }): Promise<{ image: string; map: string }> {
  const [raw, image] = [folder.file('disk.raw'), folder.file('disk.qcow2')];
  fragmented(raw, 2000);
  const terminal = recordingTerminal();
  const convert = ['convert', '-O', 'qcow2', '-o', 'cluster_size=4k', raw, image];
  assert.equal(await main(convert, terminal), 0, terminal.stderr());
  assert.equal(await main(['map', '--output=json', image], terminal), 0, terminal.stderr());
  return { image, map: terminal.stdout() };
}

test('a process prints what the command prints, and ends with its status', async () => {
  const { status, stdout, stderr } = await run(process.execPath, [
    program,
    'check',
    '--output=json',
    '/nowhere',
  ]);
  assert.deepEqual([status, stdout], [1, '']);
  assert.equal(
    stderr,
    "img: Could not open '/nowhere': Could not open '/nowhere': No such file or directory\n",
  );
});

test('a long report arrives whole, however slowly it is read', async () => {
  await using folder = await temporaryFolder();
  const { image, map } = await convertedMap(folder);
  assert.ok(map.length > 4 << 16);
  const child = spawn(process.execPath, [program, 'map', '--output=json', image], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  let text = '';
  for await (const piece of child.stdout) {
    text += String(piece);
    await turn();
  }
  assert.equal(text, map);
  assert.deepEqual(await ended, [0, null]);
});

test('a reader that goes away ends the command without a complaint', async () => {
  await using folder = await temporaryFolder();
  const { image } = await convertedMap(folder);
  const child = spawn(process.execPath, [program, 'map', '--output=json', image], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close');
  let complaints = '';
  child.stderr.on('data', (data: Buffer) => {
    complaints += data.toString();
  });
  child.stdout.once('data', () => child.stdout.destroy());
  assert.deepEqual(await ended, [1, null]);
  assert.equal(complaints, '');
});

test(
  'the bundle prints what the modules print',
  bundled ? {} : { skip: 'not bundled: npm run build' },
  async () => {
    for (const words of [
      ['--help'],
      ['convert', '--help'],
      ['serve', '-h'],
      ['bogus'],
      ['create', '-f', 'qcow2', '-o', 'help'],
    ]) {
      const terminal = recordingTerminal();
      const status = await main(words, terminal);
      const ended = await run(process.execPath, [launcher, ...words]);
      assert.deepEqual(ended, { status, stdout: terminal.stdout(), stderr: terminal.stderr() });
    }
  },
);
