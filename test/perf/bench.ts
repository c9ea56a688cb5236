/**
 * `npm run bench`: every ratio to the real peers, in one run, on this machine.
 *
 * Nothing here is a timed test: figures of one contestant mean nothing on a shared machine, and ratios of
 * medians that were measured in turns do. Words on the command line choose parts: raw, qcow2, clients, commands,
 * compression, wide, encryption, tls, live, tracking.
 */
import { randomFillSync } from 'node:crypto';
import { open } from 'node:fs/promises';
import { temporaryFolder } from '@strata/testkit';
import { clientRows } from './client-rows.ts';
import { commandRows } from './command-rows.ts';
import { compressionRows } from './compression-rows.ts';
import { encryptionRows } from './encryption-rows.ts';
import { liveRows } from './live-rows.ts';
import { holds, line, type Row } from './row.ts';
import { serverRows } from './server-rows.ts';
import { tlsRows } from './tls-rows.ts';
import { trackingRows } from './tracking-rows.ts';
import { wideRows } from './wide-rows.ts';

const diskSize = 2 ** 30;
const rounds = 3;
const words = process.argv.slice(2);
const wanted = (part: string): boolean => words.length === 0 || words.includes(part);

await using folder = await temporaryFolder();
const disk = folder.file('disk.raw');
await writeRandom(disk);

const rows: Row[] = [];
const print = (more: readonly Row[]): void => {
  rows.push(...more);
  for (const row of more) console.log(line(row));
};
console.log(
  `ours / peer, medians of ${rounds} rounds in turns (commands: the shortest of ${3 * rounds}), 1 GiB in the page cache\n`,
);
for (const format of ['raw', 'qcow2'] as const) {
  if (wanted(format)) print(await serverRows(folder, disk, format, rounds));
}
if (wanted('clients')) print(await clientRows(folder, disk, rounds));
if (wanted('commands')) print(await commandRows(folder, disk, rounds));
if (wanted('compression')) print(await compressionRows(folder, rounds));
if (wanted('wide')) print(await wideRows(folder, rounds));
if (wanted('encryption')) print(await encryptionRows(folder, disk, rounds));
if (wanted('tls')) print(await tlsRows(folder, disk, rounds));
if (wanted('live')) print(await liveRows(folder, disk, rounds));
if (wanted('tracking')) print(await trackingRows(folder, disk, rounds));
const missed = rows.filter((row) => !holds(row));
console.log(`\n${rows.length} rows, ${missed.length} bounds missed`);
process.exitCode = missed.length === 0 ? 0 : 1;

/** Random bytes, so that no row profits from zeros. */
async function writeRandom(path: string): Promise<void> {
  const file = await open(path, 'w');
  const block = new Uint8Array(2 ** 22);
  for (let done = 0; done < diskSize; done += block.length) {
    randomFillSync(block);
    await file.write(block);
  }
  await file.close();
}
