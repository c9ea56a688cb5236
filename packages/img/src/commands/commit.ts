/** `commit`: moves what an image holds down into its backing file. */
import { isDiskError } from '@strata/block';
import { commit as commitChain } from '@strata/chain';
import {
  allowRow,
  checkCacheMode,
  formatRow,
  imageOptionsRow,
  oneImage,
  progressRow,
  quietRow,
  rateOf,
  rateRow,
} from '../arguments.ts';
import { command } from '../command.ts';
import { objectRow } from '../objects/objects.ts';
import { cannotOpen, openingOf } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { type Progress, showProgress, silentProgress } from '../progress.ts';
import { CommandError } from '../report.ts';

const options = {
  format: formatRow,
  base: { letter: 'b', value: 'BASE', help: 'commit down to this image of the chain; implies -d' },
  keep: { letter: 'd', help: 'leave FILE as it is instead of emptying it' },
  cache: { letter: 't', value: 'CACHE', help: 'cache mode; accepted for the sake of scripts' },
  progress: progressRow,
  quiet: quietRow,
  allow: allowRow,
  rate: rateRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
} as const satisfies OptionTable;

/** The verb. */
export const commit = command({
  summary: 'move what an image holds down into its backing file',
  operands: 'FILE',
  options,
  threads: () => 'copying',
  run: async ({ options: given, operands, objects }, terminal) => {
    const { allow, base, cache, format, imageOptions, keep, progress: show, quiet } = given;
    const text = oneImage(operands);
    checkCacheMode(cache, 'cache option');
    let progress: Progress | undefined;
    const started = (): Progress => {
      progress ??= show && !quiet ? showProgress(terminal, 1) : silentProgress;
      return progress;
    };
    try {
      const { name, options } = openingOf(text, { allow, format, imageOptions, objects });
      await commitChain(name, options, {
        ...(base !== undefined && { base }),
        keep: keep === true,
        ...rateOf(given),
        progress: (done, total) => started().update(done, total),
      });
      started().complete();
    } catch (error) {
      throw cannotCommit(text, error);
    } finally {
      progress?.end();
    }
    if (!quiet) terminal.print('Image committed.\n');
    return 0;
  },
});

/** Opening has QEMU's words for what fails; a failed copy is told as it is. */
function cannotCommit(name: string, error: unknown): unknown {
  if (!isDiskError(error)) return error;
  if (error.context.op !== 'commit') return cannotOpen(name, error);
  const isRefusal = error.cause === undefined;
  return new CommandError(isRefusal ? error.message : `Block job failed: ${error.message}`, { cause: error });
}
