/** `measure`: how much room an image takes, before it is made. */
import type { BlockSource } from '@strata/block';
import type { Chain } from '@strata/chain';
import {
  allowRow,
  formatRow,
  imageOptionsRow,
  outputRow,
  readSize,
  reconnectRow,
  shareRow,
  wantsJson,
} from '../arguments.ts';
import { command } from '../command.ts';
import { type CreationValues, parseCreation, readOptionList } from '../creation.ts';
import { inSectors } from '../disk-size.ts';
import type { BitmapFacts, Measurement } from '../formats/support.ts';
import { supportNamed } from '../known-formats.ts';
import { creationTable } from '../make.ts';
import { type Objects, objectRow } from '../objects/objects.ts';
import { openDisk, paddedDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { formatJson } from '../print/json.ts';
import { CommandError, UsageError } from '../report.ts';
import { snapshotRow } from '../snapshot-choice.ts';

const options = {
  outputFormat: { letter: 'O', value: 'FMT', help: 'format of the new image; raw if not given' },
  lists: {
    letter: 'o',
    value: 'OPTIONS',
    help: 'options of the new image, as name=value,...',
    many: true,
    read: readOptionList,
  },
  size: {
    name: 'size',
    value: 'SIZE',
    help: 'measure for a new disk of this size',
    read: readSize('image size'),
  },
  format: { ...formatRow, help: 'format of FILE; without it the first bytes tell' },
  snapshot: snapshotRow,
  output: outputRow,
  share: shareRow,
  allow: allowRow,
  objects: objectRow,
  imageOptions: imageOptionsRow,
  reconnect: reconnectRow,
} as const satisfies OptionTable;

/** The verb. */
export const measure = command({
  summary: 'tell how much room a new image would take',
  operands: '[FILE]',
  options,
  notes: [
    'What is measured is a new disk (--size), or the content of FILE as convert would\n',
    'copy it.\n',
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    const json = wantsJson(given.output);
    const [name, extra] = operands;
    if (extra !== undefined) throw new UsageError('At most one filename argument is allowed.');
    const { allow, format, imageOptions, reconnect, share, size, snapshot } = given;
    if (name === undefined && (imageOptions || format !== undefined || snapshot !== undefined))
      throw new UsageError('--image-opts, -f, and -l require a filename argument.');
    if (name === undefined && size === undefined)
      throw new UsageError('Either --size N or one filename must be specified.');
    if (name !== undefined && size !== undefined)
      throw new UsageError('--size N cannot be used together with a filename.');
    const { outputFormat = 'raw', lists } = given;
    if (name === undefined) {
      report(await measured(outputFormat, { lists, objects }, inSectors(size ?? 0), undefined));
      return 0;
    }
    await using chain = await openDisk(name, {
      allow,
      format,
      imageOptions,
      objects,
      share,
      snapshot,
      reconnectDelayMs: reconnect,
    });
    report(await measured(outputFormat, { lists, objects }, paddedDisk(chain), () => bitmapsOf(chain)));
    return 0;

    function report(measurement: Measurement): void {
      terminal.print(json ? measureJson(measurement) : measureText(measurement));
    }
  },
});

async function measured(
  format: string,
  { lists, objects }: { readonly lists: readonly string[]; readonly objects: Objects },
  disk: number | BlockSource,
  bitmaps: (() => Promise<readonly BitmapFacts[] | undefined>) | undefined,
): Promise<Measurement> {
  const support = supportNamed(format);
  if (!support) throw new CommandError(`Unknown file format '${format}'`);
  if (!support.measure) throw new CommandError(`Block driver '${format}' does not support size measurement`);
  const values = valuesOf(format, creationTable(support), lists);
  return support.measure({ disk, values, objects, bitmaps: await bitmaps?.() });
}

function valuesOf(
  format: string,
  table: ReturnType<typeof creationTable>,
  lists: readonly string[],
): CreationValues {
  try {
    return parseCreation(table, lists);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const hint = `${error.hint}img: Invalid options for file format '${format}'\n`;
    throw new CommandError(error.message, { hint, cause: error });
  }
}

/** The bitmaps of the top image; undefined if it cannot keep any. */
async function bitmapsOf(chain: Chain): Promise<readonly BitmapFacts[] | undefined> {
  const [top] = chain.images;
  const support = top && supportNamed(top.format.name);
  return top && support?.bitmaps?.(top.host);
}

function measureJson({ required, fullyAllocated, bitmaps }: Measurement): string {
  return formatJson({ required, 'fully-allocated': fullyAllocated, bitmaps });
}

function measureText({ required, fullyAllocated, bitmaps }: Measurement): string {
  const lines = [`required size: ${required}`, `fully allocated size: ${fullyAllocated}`];
  if (bitmaps !== undefined) lines.push(`bitmaps size: ${bitmaps}`);
  return `${lines.join('\n')}\n`;
}
