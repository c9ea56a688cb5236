/** `check`: looks for damage in an image. What is found goes to standard error, the summary to standard output. */
import {
  checkCacheMode,
  formatRow,
  imageOptionsRow,
  oneImage,
  outputRow,
  quietRow,
  shareRow,
  wantsJson,
} from '../arguments.ts';
import { command } from '../command.ts';
import type { CheckOutcome } from '../formats/support.ts';
import { objectRow } from '../objects/objects.ts';
import { cannotOpen, openImage } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { checkJson, checkText } from '../print/check.ts';
import { formatJson } from '../print/json.ts';
import { CommandError, complain, UsageError } from '../report.ts';

const options = {
  format: { ...formatRow, name: 'format' },
  output: outputRow,
  quiet: quietRow,
  cache: { letter: 'T', value: 'CACHE', help: 'cache mode; accepted for the sake of scripts' },
  repair: {
    letter: 'r',
    name: 'repair',
    value: 'leaks|all',
    help: 'repair what is found (not supported yet)',
    read: refuseRepair,
  },
  share: shareRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
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
    const { cache, format, imageOptions, output, quiet, share } = given;
    const name = oneImage(operands);
    const json = wantsJson(output);
    checkCacheMode(cache, 'source cache option');
    await using image = await openImage(name, { format, share, imageOptions, objects });
    const { filename, support, host } = image;
    if (!support.check) {
      throw new CommandError('This image format does not support checks', {
        status: statuses.nothingToCheck,
      });
    }
    const { counts, findings, failed } = await support.check(host).catch((error: unknown) => {
      throw cannotOpen(name, error);
    });
    for (const finding of findings) terminal.warn(`${finding}\n`);
    if (failed !== undefined) throw new CommandError(`Check failed: ${failed}`);
    const report = () =>
      json ? formatJson(checkJson(filename, support.format.name, counts)) : checkText(counts);
    if (!quiet) terminal.print(report());
    if (counts.checkErrors > 0) complain(terminal, 'Check failed');
    return statusOf(counts);
  },
});

function refuseRepair(how: string): never {
  if (how === 'leaks' || how === 'all') throw new CommandError("option '-r' is not supported yet");
  throw new UsageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${how}`, {
    pointToHelp: true,
  });
}

function statusOf({ checkErrors, corruptions, leaks }: CheckOutcome['counts']): number {
  if (checkErrors > 0) return statuses.failed;
  if (corruptions > 0) return statuses.damaged;
  return leaks > 0 ? statuses.leaking : statuses.sound;
}
