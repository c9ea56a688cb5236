/** How QEMU and we refuse an image, and ways to give them reason. */
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { type HostSource, isDiskError } from '@strata/block';
import { run } from '@strata/testkit';
import { readInfo } from '../src/info.ts';
import { openHost } from './host.ts';

/** Bytes to write, in hexadecimal digits. */
export type Poke = readonly [at: number, hex: string];

/** Writes into an image. */
export async function poke(path: string, ...pokes: readonly Poke[]): Promise<void> {
  await using file = await open(path, 'r+');
  for (const [at, hex] of pokes) await file.write(Buffer.from(hex, 'hex'), 0, undefined, at);
}

/** The sentence with which qemu-io refuses to open the image; undefined if it opens it. */
export async function qemuRefusal(path: string, ...args: readonly string[]): Promise<string | undefined> {
  const { stdout, stderr } = await run('qemu-io', ['-f', 'qcow2', '-c', 'read 0 512', ...args, path]);
  const line = (stderr + stdout).split('\n').find((text) => text.includes("can't open"));
  return line?.replace(/^.*?can't open( device [^:]*)?: /, '');
}

/** An error, or none. */
export type Refusal = { readonly code: string; readonly message: string } | undefined;

/** How our `info` refuses it. */
export async function ourRefusal(path: string): Promise<Refusal> {
  await using file = await openHost(path);
  return await refusalOf(file);
}

/** The same of an open file. */
export async function refusalOf(file: HostSource): Promise<Refusal> {
  try {
    await readInfo(file);
    return undefined;
  } catch (error) {
    assert.ok(isDiskError(error), String(error));
    return { code: error.code, message: error.message };
  }
}
