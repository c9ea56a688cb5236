/** Images made to keep commands busy, and what a command takes for them. */
import { open } from 'node:fs/promises';
import { run, type TemporaryFolder } from '@strata/testkit';

const cli = new URL('../src/cli.js', import.meta.url).href;
export const MIB = 1024 * 1024;

/** What a run of the command took. */
export interface Cost {
  readonly status: number;
  readonly stderr: string;
  /** The most memory that the process had, in bytes. */
  readonly memory: number;
  /** Bytes that it read, of its own code too. */
  readonly read: number;
}

/** Runs the command in a process of its own, with what it prints thrown away. */
export async function costOf(...words: readonly string[]): Promise<Cost> {
  const program = `
    const { main } = await import(${JSON.stringify(cli)});
    const { readFileSync } = await import('node:fs');
    const terminal = { live: false, print: () => {}, warn: (text) => process.stderr.write(text.slice(0, 300)) };
    const status = await main(${JSON.stringify(words)}, terminal);
    const read = Number(/rchar: (\\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
    console.log(JSON.stringify({ status, memory: process.resourceUsage().maxRSS * 1024, read }));`;
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', program]);
  return { ...(JSON.parse(stdout.trim()) as Omit<Cost, 'stderr'>), stderr };
}

/** Writes bytes over those of a file. */
export async function patched(
  path: string,
  ...patches: readonly (readonly [at: number, bytes: Uint8Array])[]
): Promise<void> {
  await using file = await open(path, 'r+');
  for (const [at, bytes] of patches) await file.write(bytes, 0, bytes.length, at);
}

/** 8 bytes, big-endian. */
export const word = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
};

/** 4 bytes, big-endian. */
export const half = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** Bytes from 112 on: an extension, and the end of extensions. */
export const extension = (type: number, claimed: number, data: Uint8Array): readonly [number, Uint8Array] => [
  112,
  Buffer.concat([half(type), half(claimed), data, Buffer.alloc(16)]),
];

/** A new empty image of 64 MiB, or of `size`. */
export async function imageIn(folder: TemporaryFolder, name: string, size = '64M'): Promise<string> {
  const path = folder.file(name);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, size]);
  return path;
}
