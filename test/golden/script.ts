/**
 * Golden scripts: command lines in, one transcript out.
 *
 * A script (`NAME.cmd`) is a list of lines. `img ...` is the command under test: our own, or the real qemu-img
 * when a record is made or verified. The other words make the files that it works on, in a fresh folder. The
 * transcript shows each line, what was printed (`! ` in front of standard error) and the exit status.
 */
import {
  chmodSync,
  closeSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type Finished, run, runOk } from '@strata/testkit';
import { splitWords } from './words.ts';

/** Runs the command under test in a folder. */
export type CommandUnderTest = (words: readonly string[], folder: string) => Promise<Finished>;

/** Words that begin a line, beside `img`: they prepare files, with paths relative to the script's folder. */
const steps: Readonly<Record<string, (words: readonly string[]) => unknown>> = {
  mkdir: ([path = '']) => mkdirSync(path),
  mkfifo: (words) => runOk('mkfifo', words),
  rm: (words) => words.forEach((path) => void rmSync(path, { recursive: true })),
  mv: ([from = '', to = '']) => renameSync(from, to),
  cp: ([from = '', to = '']) => copyFileSync(from, to),
  'cp-r': ([from = '', to = '']) => cpSync(from, to, { recursive: true }),
  link: ([target = '', path = '']) => symlinkSync(target, path),
  chmod: ([mode = '', path = '']) => chmodSync(path, Number.parseInt(mode, 8)),
  text: ([path = '', text = '']) => writeFileSync(path, text),
  /** An empty or longer file of this size; what is new is a hole. */
  size: ([path = '', size = '']) => {
    closeSync(openSync(path, 'a'));
    truncateSync(path, Number(size));
  },
  /** Bytes that differ from place to place, the same in every run. */
  noise: ([path = '', offset = '', length = '']) => writeAt(path, Number(offset), noise(Number(length))),
  fill: ([path = '', offset = '', length = '', byte = '']) => {
    writeAt(path, Number(offset), Buffer.alloc(Number(length), Number(byte)));
  },
  hex: ([path = '', offset = '', digits = '']) => writeAt(path, Number(offset), Buffer.from(digits, 'hex')),
  same: ([a = '', b = '']) => {
    if (!readFileSync(a).equals(readFileSync(b))) throw new Error(`${a} and ${b} differ`);
  },
  'size-is': ([path = '', size = '']) => {
    const found = statSync(path).size;
    if (found !== Number(size)) throw new Error(`${path} has ${found} bytes`);
  },
};

/** Programs that a line may begin with, beside the command under test. */
const programs = ['qemu-img', 'qemu-io'];

/** The programs a script needs. */
export function programsOf(script: string): readonly string[] {
  return programs.filter((program) => script.split('\n').some((line) => line.startsWith(`${program} `)));
}

/** Runs a script in the current folder, which should be empty, and returns its transcript. */
export async function transcript(script: string, command: CommandUnderTest): Promise<string> {
  const folder = process.cwd();
  let text = '';
  for (const line of script.split('\n').filter((line) => line.trim() !== '')) {
    text += line.startsWith('#') ? `\n${line}\n` : `$ ${line}\n`;
    const [first = '', ...words] = splitWords(line.startsWith('#') ? '' : line);
    const step = steps[first];
    if (first === 'img') text += describe(await command(words, folder), folder);
    else if (programs.includes(first)) await runOk(first, words);
    else if (step) await step(words);
    else if (first !== '') throw new Error(`a script has no word ${first}: ${line}`);
  }
  return text;
}

function describe({ status, stdout, stderr }: Finished, folder: string): string {
  const errors = stderr.replace(/^/gm, '! ').replace(/! $/, '');
  const text = endLine(stdout) + endLine(errors) + (status === 0 ? '' : `= ${status}\n`);
  return normalize(text.replaceAll(folder, 'FOLDER'));
}

/** A last line that is not ended is marked, so that the difference shows. */
function endLine(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}<no newline>\n`;
}

function normalize(text: string): string {
  return text
    .replaceAll('qemu-img', 'img')
    .replaceAll('qemu-nbd', 'img')
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, 'YYYY-MM-DD hh:mm:ss')
    .replace(/("date-n?sec": )\d+/g, '$1TIME')
    .replace(
      /^disk size: ([\d.]+) (\w+)$/gm,
      (_, size, unit) => `disk size: ${roughly(Number(size) * (units[unit] ?? 1))}`,
    )
    .replace(/("actual-size": )(\d+)/g, (_, key, size) => key + roughly(Number(size)))
    .replaceAll('\r', '\\r');
}

const units: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** File systems spend some blocks of their own on a file, now more and now less. */
function roughly(bytes: number): string {
  const step = 1 << 16;
  return `about ${Math.floor(bytes / step) * 64} KiB`;
}

function writeAt(path: string, offset: number, bytes: Uint8Array): void {
  closeSync(openSync(path, 'a'));
  const file = openSync(path, 'r+');
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
}

function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[at] = (state >>> 24) | 1;
  }
  return bytes;
}

/** The real qemu-nbd as the command under test, in place of `img serve`. */
export const realQemuNbd: CommandUnderTest = ([, ...words], folder) =>
  run('qemu-nbd', words, { cwd: folder });

/** The real qemu-img as the command under test. */
export const realQemuImg: CommandUnderTest = (words, folder) => run('qemu-img', words, { cwd: folder });
