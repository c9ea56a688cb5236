/** `info`: what an image is. Opens one file, or with --backing-chain the file of every image of the chain. */
import { longestChain } from '@strata/chain';
import {
  allowRow,
  formatRow,
  imageOptionsRow,
  oneImage,
  outputRow,
  reconnectRow,
  shareRow,
  wantsJson,
} from '../arguments.ts';
import { command, type Given as GivenOptions } from '../command.ts';
import { imageReport } from '../image-report.ts';
import { objectRow } from '../objects/objects.ts';
import { cannotOpen, gateFor, openImage, type Wish } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { infoLocks } from '../places/file.ts';
import { schemeName } from '../places/schemes.ts';
import { type ImageReport, infoJson, printInfo } from '../print/info.ts';
import { formatJson } from '../print/json.ts';
import { CommandError, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  format: { ...formatRow, name: 'format' },
  output: outputRow,
  list: { name: 'list', help: 'FILE is an NBD server: tell which exports it has' },
  chain: { name: 'backing-chain', help: 'tell of all images of the chain' },
  share: shareRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
  reconnect: reconnectRow,
} as const satisfies OptionTable;

/** The verb. */
export const info = command({
  summary: 'tell what an image is: format, sizes, backing file, snapshots',
  operands: 'FILE',
  options,
  run: async ({ options, operands, objects }, terminal) => {
    const given = { ...options, objects };
    const name = oneImage(operands);
    const json = wantsJson(given.output);
    if (given.list) return await listExports(name, json, terminal);
    const reports = await reportsOf(name, given);
    const [first] = reports;
    if (!json) {
      for (const [index, report] of reports.entries()) {
        if (index > 0) terminal.print('\n');
        printInfo(report, (text) => terminal.print(text));
      }
    } else if (given.chain) terminal.print(formatJson(reports.map(infoJson)));
    else if (first) terminal.print(formatJson(infoJson(first)));
    return 0;
  },
});

/** @throws {UsageError} @throws {CommandError} */
async function listExports(name: string, json: boolean, terminal: Terminal): Promise<number> {
  if (!schemeName(name).startsWith('nbd')) throw new UsageError('--list expects the URI of an NBD server');
  const { describeExports, parseNbdUri } = await import('@strata/nbd');
  const { exportsJson, exportsText } = await import('../print/exports.ts');
  try {
    const server = parseNbdUri(name);
    const exports = await describeExports(server);
    terminal.print(json ? exportsJson(server, exports) : exportsText(exports));
    return 0;
  } catch (error) {
    throw cannotOpen(name, error);
  }
}

type Given = GivenOptions<typeof options>;

async function reportsOf(top: string, given: Given): Promise<readonly ImageReport[]> {
  const gate = gateFor([top], given);
  const { format, imageOptions, objects, reconnect, share } = given;
  const how = { format, imageOptions, objects, share, reconnectDelayMs: reconnect };
  const first = await reportOf(top, how, () => Promise.resolve());
  const reports = [first];
  const seen = new Set([top]);
  for (let above = first; given.chain && above.backing; ) {
    const { filename } = above;
    const reference = { name: above.backing.name, format: above.backing.format };
    const path = await gate.resolve(reference, filename).catch((error: unknown) => {
      throw cannotOpen(reference.name, error);
    });
    if (seen.has(path)) throw new CommandError(`Backing file '${path}' creates an infinite loop.`);
    if (seen.size === longestChain) throw new CommandError(`more than ${longestChain} images in one chain`);
    seen.add(path);
    above = await reportOf(path, { format: reference.format, share }, (realPath) =>
      gate.admit(realPath, reference, filename),
    );
    reports.push(above);
  }
  return reports;
}

/** @param admit judges the file that was really opened */
async function reportOf(
  name: string,
  how: Omit<Wish, 'allow' | 'locks'>,
  admit: (realPath: string) => Promise<void>,
): Promise<ImageReport> {
  await using image = await openImage(name, { ...how, locks: infoLocks });
  const { filename, support, host, realPath } = image;
  try {
    if (realPath !== undefined) await admit(realPath);
    return await imageReport({ filename, support, host });
  } catch (error) {
    throw cannotOpen(name, error);
  }
}
