/**
 * Metadata in bulk: a disk of 1 TiB with a million clusters, each of them somewhere else in the file than its
 * neighbours. What a command spends on it is tables; the data is a hole.
 */
import { open } from 'node:fs/promises';
import { openFile } from '@strata/block';
import { createQcow2 } from '@strata/qcow2';
import { run, type TemporaryFolder } from '@strata/testkit';
import { medians, seconds } from './measure.ts';
import type { Row } from './row.ts';
import { img } from './servers.ts';

const CLUSTER = 65_536;
const SIZE = 2 ** 40;
const L2_TABLES = SIZE / CLUSTER / 8192;
const DATA_CLUSTERS = 2 ** 20;
const COUNTS_IN_BLOCK = CLUSTER / 2;
/** The most memory that a command may take, Node included. */
const MEMORY = 256 * 1024 * 1024;

/** `check` and `map` against qemu-img, and what memory they take. */
export async function wideRows(folder: TemporaryFolder, rounds: number): Promise<readonly Row[]> {
  const image = await wideImage(folder);
  const rows: Row[] = [];
  // One round tells enough of a check: qemu-img's takes many times as long.
  for (const [args, turns] of [
    [['check'], 1],
    [['map', '--output=json'], 2 * rounds + 1],
  ] as const) {
    const line = [...args, '-f', 'qcow2', image];
    const [ours, theirs] = (await medians(
      [
        { name: 'strata', run: () => seconds(process.execPath, [img, ...line]) },
        { name: 'qemu-img', run: () => seconds('qemu-img', line) },
      ],
      turns,
    )) as [number, number];
    const work = `${args[0]} of 1 TiB, a million clusters`;
    rows.push({ work: `${work}, time`, peer: 'qemu-img', ratio: ours / theirs, better: 'less', bound: 2 });
    const memory = (await peakMemory(line)) / MEMORY;
    rows.push({ work: `${work}, memory`, peer: '256 MiB', ratio: memory, better: 'less', bound: 1 });
  }
  return rows;
}

/** Bytes of memory that a run of the command has at most, Node included. */
async function peakMemory(args: readonly string[]): Promise<number> {
  const program = `
    const { main } = await import(${JSON.stringify(new URL('../../../packages/img/dist/src/cli.js', import.meta.url).href)});
    await main(${JSON.stringify(args)}, { live: false, print: () => {}, warn: () => {} });
    console.log(process.resourceUsage().maxRSS * 1024);`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program]);
  return Number(stdout);
}

/** Every sixteenth cluster of the disk has a place, in an order that jumps. */
async function wideImage(folder: TemporaryFolder): Promise<string> {
  const path = folder.file('wide.qcow2');
  await using host = await openFile(await created(path), { access: 'write' });
  await createQcow2(host, { size: SIZE });
  // As created: the header, the refcount table, its first block, the L1 table. Then ours.
  const firstL2 = 4;
  const moreBlocks = firstL2 + L2_TABLES;
  const firstData = moreBlocks + 32;
  const clusters = firstData + DATA_CLUSTERS;
  const l1 = Buffer.alloc(L2_TABLES * 8);
  let placed = 0;
  for (let table = 0; table < L2_TABLES; table++) {
    l1.writeBigUInt64BE(entryFor(firstL2 + table), table * 8);
    const l2 = Buffer.alloc(CLUSTER);
    for (let index = 0; index < 8192; index += 16) {
      // An odd factor: a permutation.
      const place = (placed++ * 40_503) % DATA_CLUSTERS;
      l2.writeBigUInt64BE(entryFor(firstData + place), index * 8);
    }
    await host.write(l2, (firstL2 + table) * CLUSTER);
  }
  await host.write(l1, 3 * CLUSTER);
  const refcountTable = Buffer.alloc(CLUSTER);
  for (let block = 0; block * COUNTS_IN_BLOCK < clusters; block++) {
    const at = block === 0 ? 2 : moreBlocks + block - 1;
    refcountTable.writeBigUInt64BE(BigInt(at * CLUSTER), block * 8);
    const counts = Buffer.alloc(CLUSTER);
    for (let i = 0; i < COUNTS_IN_BLOCK && block * COUNTS_IN_BLOCK + i < clusters; i++)
      counts.writeUInt16BE(1, i * 2);
    await host.write(counts, at * CLUSTER);
  }
  await host.write(refcountTable, CLUSTER);
  await host.truncate(clusters * CLUSTER);
  return path;
}

async function created(path: string): Promise<string> {
  await (await open(path, 'w')).close();
  return path;
}

/** The entry for a cluster that is used once. */
const entryFor = (cluster: number): bigint => (1n << 63n) | BigInt(cluster * CLUSTER);
