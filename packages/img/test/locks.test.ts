import assert from 'node:assert/strict';
import { test } from 'node:test';
import { qemuImg, qemuNbd, requires, temporaryFolder } from '@strata/testkit';
import { main } from '../src/cli.ts';
import { recordingTerminal } from './recording-terminal.ts';

async function img(...words: readonly string[]) {
  const terminal = recordingTerminal();
  const status = await main(words, terminal);
  return { status, stdout: terminal.stdout(), stderr: terminal.stderr() };
}

test(
  'an image that QEMU uses is refused, or read with -U, as qemu-img does',
  requires('qemu-img', 'qemu-nbd'),
  async () => {
    await using folder = await temporaryFolder();
    const [image, base, raw, free] = ['disk.qcow2', 'base.qcow2', 'disk.raw', 'free.raw'].map(folder.file);
    if (!image || !base || !raw || !free) throw new Error('four names');
    await qemuImg.create(base, '1M');
    await qemuImg.create(image, '1M', { backing: { name: base, format: 'qcow2' } });
    await qemuImg.create(raw, '1M', { format: 'raw' });
    await qemuImg.create(free, '1M', { format: 'raw' });
    const overlay = folder.file('overlay.qcow2');
    await qemuImg.create(overlay, '1M', { backing: { name: image, format: 'qcow2' } });
    const lines = [
      ['info', image],
      ['info', '-U', image],
      ['info', '--backing-chain', overlay],
      ['map', image],
      ['map', '-U', image],
      ['map', overlay],
      ['check', image],
      ['check', '-U', image],
      ['compare', image, free],
      ['compare', '-U', image, free],
      ['convert', image, free],
      ['convert', '-U', image, free],
      ['convert', '-O', 'qcow2', free, image],
      ['convert', '-n', '-O', 'qcow2', free, image],
      ['create', '-f', 'qcow2', image, '1M'],
      ['create', '-f', 'qcow2', '-b', image, '-F', 'qcow2', folder.file('new.qcow2')],
      ['commit', image],
      ['info', '-f', 'raw', raw],
      ['map', '-f', 'raw', raw],
      ['compare', '-f', 'raw', raw, free],
      ['convert', '-f', 'raw', raw, free],
      ['convert', free, raw],
      ['create', raw, '1M'],
    ];
    for (const access of [[], ['-r']]) {
      const options = (format: string) => ['-f', format, ...access];
      await using _a = await qemuNbd(image, folder.file('a'), options('qcow2'));
      await using _b = await qemuNbd(raw, folder.file('b'), options('raw'));
      for (const words of lines) {
        const ours = await img(...words);
        const theirs = await qemuImg.run(...words);
        const stderr = theirs.stderr.replaceAll('qemu-img', 'img');
        const line = [...words, 'beside', ...access].join(' ');
        assert.deepEqual(ours, { status: theirs.status, stdout: theirs.stdout, stderr }, line);
      }
    }
  },
);
