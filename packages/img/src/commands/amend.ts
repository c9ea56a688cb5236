/** `amend`: changes options that an image was created with. */
import { isDiskError } from '@strata/block';
import type { WritableChain } from '@strata/chain';
import { allowRow, checkCacheMode, formatRow, imageOptionsRow, progressRow, quietRow } from '../arguments.ts';
import { command } from '../command.ts';
import {
  asksForTable,
  type CreationValues,
  creationHelp,
  parseCreation,
  readOptionList,
} from '../creation.ts';
import type { AmendSupport } from '../formats/support.ts';
import { supportNamed } from '../known-formats.ts';
import { objectRow } from '../objects/objects.ts';
import { openWritableDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { changeLocks } from '../places/file.ts';
import { showProgress, silentProgress } from '../progress.ts';
import { CommandError, UsageError } from '../report.ts';

const options = {
  lists: {
    letter: 'o',
    value: 'OPTIONS',
    help: "options to change, as name=value,...; '-o help' lists them",
    many: true,
    read: readOptionList,
  },
  format: formatRow,
  cache: { letter: 't', value: 'CACHE', help: 'cache mode; accepted for the sake of scripts' },
  force: { name: 'force', help: 'allow changes that can make an encrypted image unreadable' },
  progress: progressRow,
  quiet: quietRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
} as const satisfies OptionTable;

/** The verb. */
export const amend = command({
  summary: 'change options that an image was created with',
  operands: 'FILE',
  options,
  run: async ({ options: given, operands, objects }, terminal) => {
    const { allow, cache, format, imageOptions, lists } = given;
    if (lists.length === 0) throw new UsageError('Must specify options (-o)', { pointToHelp: true });
    const help = (name: string): number => {
      terminal.print(`Amend options for '${name}':\n${creationHelp(amendable(name).rows)}`);
      return 0;
    };
    if (format !== undefined && asksForTable(lists)) return help(format);
    const [name, ...more] = operands;
    if (name === undefined || more.length > 0) throw new CommandError('Expecting one image file name');
    checkCacheMode(cache, 'cache option');
    const open = (): Promise<WritableChain> =>
      openWritableDisk(name, { allow, format, imageOptions, objects, locks: changeLocks });
    const found = await withFirst(open, async (first) => {
      const { name: driver } = first.top.format;
      if (asksForTable(lists)) return help(driver);
      const { rows, run } = amendable(driver);
      return { run, values: valuesOf(rows, driver, lists) };
    });
    if (typeof found === 'number') return found;
    const shown = given.progress && !given.quiet ? showProgress(terminal, 1) : silentProgress;
    try {
      const how = { progress: shown.update, objects, force: given.force === true };
      await found.run(open, found.values, how);
      shown.complete();
    } catch (error) {
      throw withAdvice(error);
    } finally {
      shown.end();
    }
    return 0;
  },
});

async function withFirst<T>(
  open: () => Promise<WritableChain>,
  look: (chain: WritableChain) => Promise<T>,
): Promise<T> {
  await using chain = await open();
  return await look(chain);
}

function amendable(format: string): AmendSupport {
  const support = supportNamed(format);
  if (!support) throw new CommandError(`Unknown file format '${format}'`);
  if (!support.amend) throw new CommandError(`Format driver '${format}' does not support option amendment`);
  return support.amend;
}

function valuesOf(rows: AmendSupport['rows'], format: string, lists: readonly string[]): CreationValues {
  try {
    return parseCreation(rows, lists);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const stranger = /^Invalid parameter '(.*)'$/.exec(error.message)?.[1];
    const isCreation = supportNamed(format)?.rows.some((row) => row.name === stranger) === true;
    if (!isCreation) throw error;
    const hint = 'This option is only supported for image creation\n';
    throw new CommandError(error.message, { hint, cause: error });
  }
}

/** What the user can do instead. */
function withAdvice(error: unknown): unknown {
  if (!isDiskError(error, 'invalid') || error.context.op !== 'rebase') return error;
  return new CommandError(error.message, {
    hint: "You can use 'img rebase' instead.\n",
    cause: error,
  });
}
