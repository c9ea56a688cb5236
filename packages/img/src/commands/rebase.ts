/** `rebase`: puts another backing file under an image, or none, and the image goes on reading as it did. */
import { isDiskError } from '@strata/block';
import {
  allowLocal,
  type NewBacking,
  openingSentence,
  type RebaseStep,
  rebase as rebaseChain,
  rebaseUnchecked,
} from '@strata/chain';
import {
  allowRow,
  checkCacheMode,
  formatRow,
  imageOptionsRow,
  oneImage,
  progressRow,
  quietRow,
  shareRow,
} from '../arguments.ts';
import { command } from '../command.ts';
import { supportNamed } from '../known-formats.ts';
import { objectRow } from '../objects/objects.ts';
import { cannotOpen, openingFor, openingHint, openingOf } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { showProgress, silentProgress } from '../progress.ts';
import { CommandError, UsageError } from '../report.ts';

const options = {
  format: formatRow,
  backing: { letter: 'b', value: 'FILE', help: "the new backing file; '' for none" },
  backingFormat: { letter: 'F', value: 'FMT', help: 'format of the new backing file' },
  unchecked: {
    letter: 'u',
    help: 'only record the new backing file: it must read as the old one does',
  },
  cache: { letter: 't', value: 'CACHE', help: "cache mode; 'unsafe' does not flush" },
  sourceCache: {
    letter: 'T',
    value: 'CACHE',
    help: 'cache mode of the backing files; accepted for the sake of scripts',
  },
  share: shareRow,
  allow: allowRow,
  progress: progressRow,
  quiet: quietRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
} as const satisfies OptionTable;

/** The verb. */
export const rebase = command({
  summary: 'put another backing file under an image',
  operands: 'FILE',
  options,
  threads: () => 'copying',
  notes: [
    'Where the old and the new backing file differ, FILE takes what the old one has. With -u\n',
    'nothing is compared, and FILE reads differently where the two differ.\n',
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    const { allow, backing, backingFormat, cache, format, imageOptions, quiet, share } = given;
    const text = oneImage(operands);
    if (backing === undefined && !given.unchecked) {
      throw new UsageError('Must specify backing file (-b) or use unsafe mode (-u)', { pointToHelp: true });
    }
    const progress = given.progress && !quiet ? showProgress(terminal, 1) : silentProgress;
    try {
      checkCacheMode(cache, 'cache option');
      checkCacheMode(given.sourceCache, 'source cache option');
      const unsafe = cache === 'unsafe';
      const opening = await describe(text, () =>
        openingOf(text, { allow, format, imageOptions, objects, share, unsafe }),
      );
      const reference =
        backing === undefined || backing === '' ? undefined : { name: backing, format: backingFormat };
      const work = async (): Promise<void> => {
        if (given.unchecked) return rebaseUnchecked(opening.name, opening.options, reference);
        const named = reference && (await newBacking(reference, opening.name, allow, share));
        await rebaseChain(opening.name, opening.options, named, { progress: progress.update });
      };
      if (backingFormat !== undefined) checkFormat(backingFormat);
      await work().catch((error: unknown) => {
        throw cannotRebase(text, backing ?? '', error);
      });
      progress.complete();
    } finally {
      progress.end();
    }
    return 0;
  },
});

async function describe<T>(text: string, make: () => T): Promise<T> {
  try {
    return make();
  } catch (error) {
    throw cannotOpen(text, error);
  }
}

function checkFormat(name: string): void {
  if (!supportNamed(name)) throw new CommandError(`Invalid format name: '${name}'`);
}

/** What the user named, looked for from the folder of the image that is to record it. */
async function newBacking(
  reference: NewBacking['reference'],
  from: string,
  allow: readonly string[],
  share: boolean | undefined,
): Promise<NewBacking> {
  const { name, format } = reference;
  try {
    const path = await allowLocal.resolve(reference, from);
    return { reference, path, open: openingFor([path], { allow, format, share }) };
  } catch (error) {
    if (!isDiskError(error)) throw error;
    throw new CommandError(`Could not open new backing file '${name}': ${error.message}`, { cause: error });
  }
}

/** Each step's failure in qemu-img's words; what has no row is a failure to open the image. */
const sentences: Readonly<Record<RebaseStep, (backing: string, why: string) => string>> = {
  'open-new': (backing, why) => `Could not open new backing file '${backing}': ${why}`,
  'read-old': (_backing, why) => `error while reading from old backing file: ${why}`,
  'read-new': (_backing, why) => `error while reading from new backing file: ${why}`,
  map: (_backing, why) => `error while reading image metadata: ${why}`,
  write: (_backing, why) => `Error while writing to COW image: ${why}`,
  record: (backing, why) => `Could not change the backing file to '${backing}': ${why}`,
};

function cannotRebase(text: string, backing: string, error: unknown): unknown {
  if (!isDiskError(error)) return error;
  const { op } = error.context;
  if (op === undefined || !Object.hasOwn(sentences, op)) return cannotOpen(text, error);
  const cause = isDiskError(error.cause) ? error.cause : error;
  const why = op === 'open-new' ? openingSentence(cause) : error.message;
  const message = sentences[op as RebaseStep](backing, why);
  return new CommandError(message, { hint: openingHint(cause), cause: error });
}
