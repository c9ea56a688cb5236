/** `check`: looks for damage in an image. What is found goes to standard error, the summary to standard output. */
import {
  allowRow,
  checkCacheMode,
  formatRow,
  imageOptionsRow,
  oneImage,
  outputRow,
  quietRow,
  reconnectRow,
  shareRow,
  wantsJson,
} from '../arguments.ts';
import { command } from '../command.ts';
import type { CheckOutcome } from '../formats/support.ts';
import { objectRow } from '../objects/objects.ts';
import { cannotOpen, openDataFile, openImage, openImageFile, type Wish } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { type CheckCounts, checkJson, checkText, repairText } from '../print/check.ts';
import { formatJson } from '../print/json.ts';
import { CommandError, complain, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  format: { ...formatRow, name: 'format' },
  output: outputRow,
  quiet: quietRow,
  cache: { letter: 'T', value: 'CACHE', help: 'cache mode; accepted for the sake of scripts' },
  repair: {
    letter: 'r',
    name: 'repair',
    value: 'leaks|all',
    help: 'repair leaked clusters only, or all that can be repaired',
    read: readScope,
  },
  share: shareRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
  reconnect: reconnectRow,
} as const satisfies OptionTable;

const statuses = { sound: 0, failed: 1, damaged: 2, leaking: 3, nothingToCheck: 63 } as const;

/** The verb. */
export const check = command({
  summary: 'look for damage and for leaked clusters in an image',
  operands: 'FILE',
  options,
  notes: [
    'The exit status is 0 if the image is sound, 1 if the check could not be made, 2 if\n',
    'the image is damaged, 3 if it only has leaked clusters, and 63 if its format has\n',
    'nothing to check.\n',
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    const { allow, cache, format, imageOptions, output, quiet, reconnect, repair, share } = given;
    const name = oneImage(operands);
    const json = wantsJson(output);
    checkCacheMode(cache, 'source cache option');
    const wish = { allow, format, share, imageOptions, objects, reconnectDelayMs: reconnect };
    const announce = (counts: CheckCounts): void => {
      if (!json && !quiet) terminal.print(repairText(counts));
    };
    const {
      filename,
      format: formatName,
      counts,
    } = repair === undefined
      ? await checkOnly(name, wish, terminal)
      : await repairFirst(name, wish, repair, announce, terminal);
    const report = () => (json ? formatJson(checkJson(filename, formatName, counts)) : checkText(counts));
    if (!quiet) terminal.print(report());
    if (counts.checkErrors > 0) complain(terminal, 'Check failed');
    return statusOf(counts);
  },
});
interface Checked {
  readonly filename: string;
  readonly format: string;
  readonly counts: CheckCounts;
}

async function checkOnly(name: string, wish: Wish, terminal: Terminal): Promise<Checked> {
  await using image = await openImage(name, wish);
  await using _ = await openDataFile(name, image, wish);
  const { filename, support, host } = image;
  const { counts } = await told(name, support.check?.(host), terminal);
  return { filename, format: support.format.name, counts };
}

/** Repairs, and checks again if there was anything to repair. */
async function repairFirst(
  name: string,
  wish: Wish,
  scope: Scope,
  announce: (counts: CheckCounts) => void,
  terminal: Terminal,
): Promise<Checked> {
  await using image = await openImageFile(name, wish);
  await using _ = await openDataFile(name, image, wish);
  const { filename, support, host } = image;
  const format = support.format.name;
  const { counts } = await told(name, support.repair?.(host, scope), terminal);
  const { leaksFixed = 0, corruptionsFixed = 0 } = counts;
  if (leaksFixed + corruptionsFixed === 0) return { filename, format, counts };
  announce(counts);
  const again = await told(name, support.check?.(host), terminal);
  return { filename, format, counts: { ...again.counts, leaksFixed, corruptionsFixed } };
}

/** Tells what a check found. @throws {CommandError} */
async function told(
  name: string,
  checking: Promise<CheckOutcome> | undefined,
  terminal: Terminal,
): Promise<CheckOutcome> {
  if (checking === undefined) {
    throw new CommandError('This image format does not support checks', {
      status: statuses.nothingToCheck,
    });
  }
  const outcome = await checking.catch((error: unknown) => {
    throw cannotOpen(name, error);
  });
  for (const finding of outcome.findings) terminal.warn(`${finding}\n`);
  if (outcome.failed !== undefined) throw new CommandError(`Check failed: ${outcome.failed}`);
  return outcome;
}

type Scope = 'leaks' | 'all';

function readScope(how: string): Scope {
  if (how === 'leaks' || how === 'all') return how;
  throw new UsageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${how}`, {
    pointToHelp: true,
  });
}

function statusOf({ checkErrors, corruptions, leaks }: CheckOutcome['counts']): number {
  if (checkErrors > 0) return statuses.failed;
  if (corruptions > 0) return statuses.damaged;
  return leaks > 0 ? statuses.leaking : statuses.sound;
}
