/** `create`: a new empty image, perhaps over a backing file. */
import { type BackingReference, isDiskError } from '@strata/block';
import { allowLocal, openChain, openingSentence } from '@strata/chain';
import { allowRow, formatRow, quietRow, readSize } from '../arguments.ts';
import { command, type Given } from '../command.ts';
import {
  backingReference,
  type CreationValue,
  parseCreation,
  readOptionList,
  setBacking,
  showCreation,
} from '../creation.ts';
import { inSectors } from '../disk-size.ts';
import { supportNamed } from '../known-formats.ts';
import { creationAnswer, creationTable, makeImage } from '../make.ts';
import { objectRow } from '../objects/objects.ts';
import { openingFor, openingHint } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { schemeName } from '../places/schemes.ts';
import { CommandError, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  format: { ...formatRow, help: 'format of the new image; raw if not given' },
  backing: { letter: 'b', value: 'FILE', help: 'backing file' },
  backingFormat: { letter: 'F', value: 'FMT', help: 'format of the backing file' },
  unchecked: { letter: 'u', help: 'do not open the backing file; SIZE must be given' },
  lists: {
    letter: 'o',
    value: 'OPTIONS',
    help: "options of the format, as name=value,...; '-o help' lists them",
    many: true,
    read: readOptionList,
  },
  quiet: quietRow,
  allow: allowRow,
  objects: objectRow,
} as const satisfies OptionTable;

const readImageSize = readSize('image size');

/** The verb. */
export const create = command({
  summary: 'make a new image',
  operands: 'FILE [SIZE]',
  options,
  notes: [
    'SIZE is in bytes, or takes a suffix: k, M, G, T, P or E, powers of 1024. Over a\n',
    'backing file it may be left out, and is then the size of the backing file.\n',
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    const options = { ...given, objects };
    const { format = 'raw', lists } = options;
    const [name, sizeText, extra] = operands;
    const answer = creationAnswer(lists, format, name);
    if (answer !== undefined) {
      terminal.print(answer);
      return 0;
    }
    if (name === undefined) throw new UsageError('Expecting image file name', { pointToHelp: true });
    const size = sizeText === undefined ? undefined : readImageSize(sizeText);
    if (extra !== undefined) throw new UsageError(`Unexpected argument: ${extra}`, { pointToHelp: true });
    try {
      await createNamed(name, format, size, options, terminal);
    } catch (error) {
      throw aboutImage(name, format, error);
    }
    return 0;
  },
});

/** The image to be made. */
interface Request {
  readonly name: string;
  readonly values: Map<string, CreationValue>;
}

async function createNamed(
  name: string,
  format: string,
  size: number | undefined,
  given: Given<typeof options>,
  terminal: Terminal,
): Promise<void> {
  const support = supportNamed(format);
  if (!support) throw new CommandError(`Unknown file format '${format}'`);
  schemeName(name);
  const table = creationTable(support);
  const values = parseCreation(table, given.lists);
  const request = { name, values };
  setSize(request, size);
  const { backing: backingName, backingFormat } = given;
  setBacking(table, values, { format, backing: backingName, backingFormat });
  const backing = backingOf(request);
  if (backing) await measureBacking(request, backing, given);
  const whole = values.get('size');
  if (typeof whole !== 'number') throw new CommandError('Image creation needs a size parameter');
  if (!given.quiet) terminal.print(`Formatting '${name}', fmt=${format} ${showCreation(table, values)}\n`);
  await makeImage(name, support, { size: whole, backing, values, objects: given.objects });
}

function setSize({ values }: Request, size: number | undefined): void {
  if (size === undefined) return;
  if (values.has('size')) throw new CommandError('The image size must be specified only once');
  values.set('size', size);
}

function backingOf({ name, values }: Request): BackingReference | undefined {
  const backing = backingReference(values);
  if (backing?.name === name) {
    throw new CommandError('Error: Trying to create an image with the same filename as the backing file');
  }
  if (backing?.name === '') throw new CommandError('Expected backing file name, got empty string');
  return backing;
}

/** Opens the backing file, unless that is not wanted: it must be there, and its size is the size that was not given. */
async function measureBacking(
  { name, values }: Request,
  backing: BackingReference,
  { allow, unchecked }: Given<typeof options>,
): Promise<void> {
  const noFormat = 'Backing file specified without backing format';
  if (unchecked) {
    if (backing.format === undefined) throw new CommandError(noFormat);
    return;
  }
  try {
    const path = await allowLocal.resolve(backing, name);
    await using chain = await openChain(
      path,
      openingFor([path], { allow, format: backing.format, share: true }),
    );
    if (backing.format === undefined) {
      throw new CommandError(noFormat, { hint: `Detected format of ${chain.images[0]?.format.name}.` });
    }
    if (!values.has('size')) values.set('size', inSectors(chain.source.size));
  } catch (error) {
    if (!isDiskError(error)) throw error;
    const hint = `${openingHint(error)}Could not open backing image.\n`;
    throw new CommandError(openingSentence(error), { hint, cause: error });
  }
}

/** Puts the name of the image in front of what is wrong with it. */
function aboutImage(name: string, format: string, error: unknown): unknown {
  if (error instanceof CommandError) {
    return new CommandError(`${name}: ${error.message}`, { hint: error.hint, cause: error });
  }
  if (!isDiskError(error)) return error;
  const message = error.code === 'limit' ? tooLarge(format) : error.message;
  return new CommandError(`${name}: ${message}`, { hint: openingHint(error), cause: error });
}

function tooLarge(format: string): string {
  const hasClusters = supportNamed(format)?.rows.some((row) => row.name === 'cluster_size') === true;
  const advice = hasClusters ? ' (try using a larger cluster size)' : '';
  return `The image size is too large for file format '${format}'${advice}`;
}
