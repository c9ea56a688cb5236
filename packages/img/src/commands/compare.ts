/** `compare`: whether two images read the same. The exit status tells it, and what failed if it cannot be told. */
import {
  type BlockSource,
  compare as compareDisks,
  DiskError,
  isDiskError,
  sourceWindow,
} from '@strata/block';
import type { Chain } from '@strata/chain';
import {
  allowRow,
  checkCacheMode,
  imageOptionsRow,
  progressRow,
  quietRow,
  reconnectRow,
  shareRow,
} from '../arguments.ts';
import { command } from '../command.ts';
import { sectorOf } from '../disk-size.ts';
import { objectRow } from '../objects/objects.ts';
import { foldersOf, openDisk, paddedDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { type Progress, showProgress, silentProgress } from '../progress.ts';
import { CommandError, UsageError } from '../report.ts';
import { allocationMismatch } from '../strict.ts';

const options = {
  format: { letter: 'f', value: 'FMT', help: 'format of FILE1; without it the first bytes tell' },
  otherFormat: { letter: 'F', value: 'FMT', help: 'format of FILE2; without it the first bytes tell' },
  strict: { letter: 's', help: 'sizes and allocation must be the same as well' },
  cache: { letter: 'T', value: 'CACHE', help: 'cache mode; accepted for the sake of scripts' },
  progress: progressRow,
  quiet: quietRow,
  share: shareRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
  reconnect: reconnectRow,
} as const satisfies OptionTable;

const statuses = { same: 0, different: 1, notOpened: 2, notMapped: 3, notRead: 4 } as const;

/** The verb. */
export const compare = command({
  summary: 'tell whether two images read the same',
  operands: 'FILE1 FILE2',
  options,
  objectFailure: statuses.notOpened,
  notes: [
    'What one image has beyond the end of the other must be zeros. The exit status is 0 if\n',
    'the images are the same, 1 if they differ, and more than 1 if that cannot be told.\n',
  ].join(''),
  run: async ({ options, operands, objects }, terminal) => {
    const [first, second, extra] = operands;
    if (first === undefined || second === undefined || extra !== undefined) {
      throw new UsageError('Expecting two image file names', { pointToHelp: true });
    }
    checkCacheMode(options.cache, 'source cache option', statuses.notOpened);
    const { format, imageOptions, otherFormat, share, quiet, progress: show } = options;
    const allow = [...options.allow, ...foldersOf(operands, options)];
    const wish = { allow, share, imageOptions, objects, reconnectDelayMs: options.reconnect };
    await using a = await openDisk(first, { ...wish, format }, statuses.notOpened);
    await using b = await openDisk(second, { ...wish, format: otherFormat }, statuses.notOpened);
    const progress = show && !quiet ? showProgress(terminal, 2) : silentProgress;
    const say = quiet ? () => undefined : (sentence: string) => terminal.print(`${sentence}\n`);
    try {
      return await verdict(a, b, [first, second], { strict: options.strict === true, progress, say });
    } catch (error) {
      throw cannotTell(error, first);
    } finally {
      progress.end();
    }
  },
});

interface Manner {
  readonly strict: boolean;
  readonly progress: Progress;
  say(sentence: string): void;
}

async function verdict(
  a: Chain,
  b: Chain,
  [first, second]: readonly [string, string],
  { strict, progress, say }: Manner,
): Promise<number> {
  let [one, other] = [blamed(paddedDisk(a), first), blamed(paddedDisk(b), second)];
  const common = Math.min(one.size, other.size);
  const differ = one.size !== other.size;
  if (strict && differ) {
    say('Strict mode: Image size mismatch!');
    return statuses.different;
  }
  const status = strict ? await allocationMismatch(a, b, common) : undefined;
  if (status !== undefined) {
    [one, other] = [sourceWindow(one, 0, status), sourceWindow(other, 0, status)];
  }
  const content = await compareDisks(one, other, {
    // The end of a comparison that found something is not the end of the disks.
    progress: (done, total) => done < total && progress.update(done, total),
  });
  if (content === undefined && status === undefined && one.size + other.size > 0) progress.complete();
  if (differ && (content === undefined || content >= common)) say('Warning: Image size mismatch!');
  if (content !== undefined) say(`Content mismatch at offset ${sectorOf(content)}!`);
  else if (status !== undefined) say(`Strict mode: Offset ${status} block status mismatch!`);
  else say('Images are identical.');
  return content === undefined && status === undefined ? statuses.same : statuses.different;
}

/** `disk`, whose failures carry the name that the user gave it. */
function blamed(disk: BlockSource, path: string): BlockSource {
  const blame = (error: unknown): never => {
    if (!isDiskError(error)) throw error;
    throw new DiskError(error.code, error.message, { ...error.context, path, cause: error });
  };
  return {
    size: disk.size,
    read: (into, offset) => disk.read(into, offset).catch(blame),
    tryRead: (into, offset) => disk.tryRead(into, offset),
    extentAt: (offset, limit) => disk.extentAt(offset, limit).catch(blame),
    tryExtentAt: (offset, limit) => disk.tryExtentAt(offset, limit),
    [Symbol.asyncDispose]: () => disk[Symbol.asyncDispose](),
  };
}

function cannotTell(error: unknown, first: string): unknown {
  if (!isDiskError(error)) return error;
  const { op, offset, path: name = first } = error.context;
  if (op !== 'read') {
    const message = `Sector allocation test failed for ${name}: ${error.message}`;
    return new CommandError(message, { status: statuses.notMapped, cause: error });
  }
  const message = `Error while reading offset ${offset} of ${name}: ${error.message}`;
  return new CommandError(message, { status: statuses.notRead, cause: error });
}
