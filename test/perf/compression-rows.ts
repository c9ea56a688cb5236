/**
 * Compressing and decompressing against qemu-img, as whole processes.
 *
 * The disk is mixed: of every 8 MiB five are words, two random bytes and one zeros. Speed is `1 / seconds`, so that
 * more is better. What the compressed files are long is a row too: speed must not be bought with size.
 */
import { randomFillSync } from 'node:crypto';
import { open, rm, stat } from 'node:fs/promises';
import { qemuImg, type TemporaryFolder } from '@strata/testkit';
import { medians, seconds } from './measure.ts';
import type { Row } from './row.ts';
import { img } from './servers.ts';

const mebibyte = 2 ** 20;
const diskMebibytes = 512;

interface Kind {
  readonly type: 'zlib' | 'zstd';
  /** What qemu-img is told to be as fast as it can. */
  readonly theirs: readonly string[];
  readonly bound: number;
}

const kinds: readonly Kind[] = [
  { type: 'zlib', theirs: [], bound: 2 },
  { type: 'zstd', theirs: ['-W', '-m', '16'], bound: 1.3 },
];

/** All rows. */
export async function compressionRows(folder: TemporaryFolder, rounds: number): Promise<readonly Row[]> {
  const disk = folder.file('mixed.raw');
  await writeMixed(disk);
  const rows: Row[] = [];
  for (const { type, theirs, bound } of kinds) {
    const [ours, other] = [folder.file(`ours-${type}`), folder.file(`theirs-${type}`)];
    const target = ['-f', 'raw', '-O', 'qcow2', '-o', `compression_type=${type}`, disk];
    const compress = await speeds(rounds, disk, [
      [process.execPath, [img, 'convert', '-c', ...target], ours],
      ['qemu-img', ['convert', '-c', ...theirs, ...target], other],
    ]);
    const peer = 'qemu-img';
    const flags = ['-c', ...theirs].join(' ');
    rows.push({ work: `convert ${flags}, ${type}, speed`, peer, ratio: compress, better: 'more', bound });
    const ratio = (await stat(ours)).size / (await stat(other)).size;
    rows.push({ work: `convert -c, ${type}, size`, peer, ratio, better: 'less', bound: 1.02 });
    await qemuImg.compare(ours, 'qcow2', disk, 'raw');

    const out = folder.file('out');
    const source = ['convert', '-f', 'qcow2', '-O', 'raw', other];
    const decompress = await speeds(2 * rounds + 1, other, [
      [process.execPath, [img, ...source], out],
      ['qemu-img', source, out],
    ]);
    rows.push({ work: `convert from ${type}, speed`, peer, ratio: decompress, better: 'more', bound: 1 });
    for (const path of [ours, other, out]) await rm(path, { force: true });
  }
  await rm(disk);
  return rows;
}

type Contestant = readonly [command: string, args: readonly string[], output: string];

/** How many times as fast the first is as the second. */
async function speeds(
  rounds: number,
  input: string,
  contestants: readonly [Contestant, Contestant],
): Promise<number> {
  const figures = await medians(
    contestants.map(([command, args, output]) => ({
      name: command,
      files: [input],
      output: { path: output, bytes: diskMebibytes * mebibyte },
      run: () => seconds(command, [...args, output]),
    })),
    rounds,
  );
  const [ours, theirs] = figures as [number, number];
  return theirs / ours;
}

async function writeMixed(path: string): Promise<void> {
  const file = await open(path, 'w');
  const words = makeWords();
  const noise = new Uint8Array(mebibyte);
  for (let index = 0; index < diskMebibytes; index++) {
    const part = index % 8;
    if (part < 5) await file.write(text(words), 0, mebibyte, index * mebibyte);
    else if (part < 7) await file.write(randomFillSync(noise), 0, mebibyte, index * mebibyte);
  }
  await file.truncate(diskMebibytes * mebibyte);
  await file.close();
}

/** Made-up words, some letters more often than others. */
function makeWords(): readonly string[] {
  const letter = (): string => String.fromCharCode(97 + Math.floor(Math.random() * Math.random() * 26));
  return Array.from({ length: 4096 }, () =>
    Array.from({ length: 2 + Math.floor(Math.random() * 8) }, letter).join(''),
  );
}

/** Words, some more often than others. */
function text(words: readonly string[]): Buffer {
  const parts: string[] = [];
  for (let length = 0; length < mebibyte; length += (parts.at(-1)?.length ?? 0) + 1)
    parts.push(words[Math.floor(words.length * Math.random() ** 3)] as string);
  return Buffer.from(parts.join(' ').slice(0, mebibyte).padEnd(mebibyte));
}
