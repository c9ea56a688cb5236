/** `convert`: copies disks into a new image, or into one that is there. */
import { dirname } from 'node:path';
import {
  type BlockSource,
  type Extent,
  type ImageFormat,
  isDiskError,
  type Loss,
  salvaged,
} from '@strata/block';
import type { Chain } from '@strata/chain';
import {
  allowRow,
  checkCacheMode,
  formatRow,
  imageOptionsRow,
  progressRow,
  quietRow,
  rateOf,
  rateRow,
  readSize,
  reconnectRow,
  shareRow,
} from '../arguments.ts';
import { command, type Given as GivenOptions } from '../command.ts';
import { compressing, levelRow, refuseCompression } from '../compression.ts';
import { copyAll, describedBy, topAlone } from '../copying.ts';
import { bitmapsToCopy, copyBitmaps } from '../copying-bitmaps.ts';
import { backingReference, parseCreation, readOptionList, setBacking } from '../creation.ts';
import { inSectors } from '../disk-size.ts';
import { supportNamed } from '../known-formats.ts';
import { creationAnswer, creationTable, madeFormat, makeImage } from '../make.ts';
import { objectRow } from '../objects/objects.ts';
import {
  allowingBacking,
  foldersOf,
  openAll,
  openDisk,
  openingHint,
  openWritableDisk,
  paddedDisk,
} from '../open.ts';
import type { OptionTable } from '../options.ts';
import { copyLocks } from '../places/file.ts';
import { schemeName } from '../places/schemes.ts';
import { type Progress, showProgress, silentProgress } from '../progress.ts';
import { CommandError, complain, UsageError } from '../report.ts';
import { snapshotRow } from '../snapshot-choice.ts';
import type { Terminal } from '../terminal.ts';

const largestSparse = 16 << 20;
const mostParallel = 16;

const options = {
  format: { ...formatRow, help: 'format of the sources; without it the first bytes tell' },
  outputFormat: { letter: 'O', value: 'FMT', help: 'format of the target; raw if not given' },
  lists: {
    letter: 'o',
    value: 'OPTIONS',
    help: "options of the target's format, as name=value,...; '-o help' lists them",
    many: true,
    read: readOptionList,
  },
  backing: { letter: 'B', value: 'FILE', help: 'backing file of the target' },
  backingFormat: { letter: 'F', value: 'FMT', help: 'format of the backing file' },
  existing: { letter: 'n', help: 'write into the target as it is; it must be large enough' },
  zeroTarget: { name: 'target-is-zero', help: 'the target reads as zeros (with -n)' },
  sparse: {
    letter: 'S',
    value: 'SIZE',
    help: 'how long a run of zeros must be to take no space; 4k if not given, 0 to write all out',
    read: readSparse,
  },
  cache: {
    letter: 't',
    value: 'CACHE',
    help: "cache mode of the target; 'unsafe', the standard, does not flush",
  },
  sourceCache: {
    letter: 'T',
    value: 'CACHE',
    help: 'cache mode of the sources; accepted for the sake of scripts',
  },
  parallel: {
    letter: 'm',
    value: 'N',
    help: 'pieces of 2 MiB in flight, 1 to 16; 4 if not given',
    read: readParallel,
  },
  unordered: { letter: 'W', help: 'write in any order; accepted for the sake of scripts' },
  share: shareRow,
  allow: allowRow,
  progress: progressRow,
  quiet: quietRow,
  compress: { letter: 'c', help: 'compress what is written (qcow2)' },
  level: levelRow,
  offload: { letter: 'C', help: 'let the kernel copy data from file to file, where it can' },
  rate: rateRow,
  snapshot: snapshotRow,
  bitmaps: { name: 'bitmaps', help: 'copy the dirty bitmaps of the source too' },
  skipBroken: { name: 'skip-broken-bitmaps', help: 'copy only bitmaps that are sound' },
  salvage: { name: 'salvage', help: 'copy zeros for what cannot be read' },
  objects: objectRow,
  imageOptions: { ...imageOptionsRow, help: 'each SOURCE is a list of image options and not a name' },
  reconnect: reconnectRow,
  targetOptions: {
    name: 'target-image-opts',
    help: 'TARGET is a list of image options and not a name (with -n)',
  },
} as const satisfies OptionTable;

type Given = GivenOptions<typeof options>;

/** The verb. */
export const convert = command({
  summary: 'copy disks into an image of another format or place',
  operands: 'SOURCE... TARGET',
  options,
  threads: ({ compress }) => (compress ? 'compressing' : 'copying'),
  notes: 'Several sources are put one after another. The target may be an NBD export with -n.\n',
  run: async ({ options, operands, objects }, terminal) => {
    const given = { ...options, objects };
    refuseContradictions(given);
    const names = operands.slice(0, -1);
    const target = operands.at(-1);
    const outputFormat = given.outputFormat ?? 'raw';
    const answer = creationAnswer(given.lists, outputFormat, names.length > 0 ? target : undefined);
    if (answer !== undefined) {
      terminal.print(answer);
      return 0;
    }
    if (target === undefined || names.length === 0) throw new UsageError('Must specify image file name');
    checkCacheMode(given.sourceCache, 'source cache option');
    const shown = given.progress && !given.quiet ? showProgress(terminal, 1) : silentProgress;
    try {
      const { format, imageOptions, share } = given;
      const snapshot = names.length === 1 ? given.snapshot : undefined;
      const allow = [...given.allow, ...foldersOf(names, given), ...foldersOf([target], targetManner(given))];
      const wish = {
        allow,
        format,
        share,
        snapshot,
        imageOptions,
        objects,
        reconnectDelayMs: given.reconnect,
        locks: copyLocks,
      };
      await using sources = await openAll(names, (name) => openDisk(name, wish));
      if (given.snapshot !== snapshot)
        throw new CommandError('No support for concatenating multiple snapshot');
      await convertInto(target, outputFormat, sources.opened, given, shown, terminal);
      shown.complete();
    } finally {
      shown.end();
    }
    return 0;
  },
});

/** How the name of the target is to be read. */
function targetManner({ targetOptions }: Given) {
  return { imageOptions: targetOptions };
}

/** @throws {UsageError} in the order in which qemu-img looks for what does not go together */
function refuseContradictions(given: Given): void {
  const rules: readonly (readonly [boolean | undefined, string])[] = [
    [given.skipBroken && !given.bitmaps, 'Use of --skip-broken-bitmaps requires --bitmaps'],
    [given.compress && given.offload, 'Cannot enable copy offloading when -c is used'],
    [given.sparse !== undefined && given.offload, 'Cannot enable copy offloading when -S is used'],
    [given.level !== undefined && !given.compress, '--compression-level requires use of -c flag'],
    [given.offload && given.salvage, 'Cannot use copy offloading in salvaging mode'],
    [given.targetOptions && !given.existing, '--target-image-opts requires use of -n flag'],
    [given.existing && given.lists.length > 0, '-o has no effect when skipping image creation'],
    [given.zeroTarget && !given.existing, '--target-is-zero requires use of -n flag'],
    [
      given.zeroTarget && given.backing !== undefined,
      'Cannot use --target-is-zero when the destination image has a backing file',
    ],
  ];
  for (const [holds, sentence] of rules) if (holds) throw new UsageError(sentence);
}

async function convertInto(
  name: string,
  format: string,
  sources: readonly Chain[],
  given: Given,
  progress: Progress,
  terminal: Terminal,
): Promise<void> {
  const readable = (disk: BlockSource): BlockSource =>
    given.salvage ? salvaged(disk, lossReporter(given, terminal)) : disk;
  const disks = sources.map((source) => readable(paddedDisk(source)));
  const size = disks.reduce((sum, disk) => sum + disk.size, 0);
  const bitmaps = given.bitmaps ? await bitmapsToCopy(sources, format, given.skipBroken === true) : undefined;
  const { backing, dataFile, isZero, made } = given.existing
    ? takeTarget(format, given)
    : await makeTarget(name, format, size, sources.length, given);
  const unsafe = (given.cache ?? 'unsafe') === 'unsafe';
  const data = dataFile === undefined ? [] : [dirname(dataFile)];
  const allow = await allowingBacking([...given.allow, ...data], backing, name);
  await using target = await openWritableDisk(name, {
    allow,
    format: given.targetOptions ? given.outputFormat : format,
    unsafe,
    made,
    objects: given.objects,
    ...targetManner(given),
    reconnectDelayMs: given.reconnect,
  });
  if (target.device.size < size) throw new CommandError('output file is smaller than input file');
  const device = given.compress ? compressing(target, given.level) : target.device;
  const overlay = backing === undefined ? undefined : overlayOf(sources, target);
  await copyAll(overlay?.disks?.map(readable) ?? disks, device, {
    ...(given.compress && { unit: device.caps.blockSize }),
    ...(overlay?.select && { select: overlay.select }),
    zeroFrom: isZero ? (overlay?.zeroFrom ?? 0) : size,
    sparse: given.sparse ?? 4096,
    ...(given.parallel !== undefined && { parallel: given.parallel }),
    offload: given.offload === true,
    ...rateOf(given),
    progress: progress.update,
  });
  if (bitmaps) await copyBitmaps(bitmaps, target.top.layer, terminal);
  if (!unsafe) await target.device.flush();
}

/** Says what was lost (`--salvage`). */
function lossReporter({ quiet }: Given, terminal: Terminal): (loss: Loss) => void {
  if (quiet) return () => undefined;
  return ({ step, offset, error }) => {
    const what = step === 'read' ? 'reading' : 'reading block status at';
    complain(terminal, `warning: error while ${what} offset ${offset}: ${error.message}`);
  };
}

/**
 * How an overlay is filled from its one source: what the top of the source leaves to its own backing file is left
 * to the target's, and behind the end of that the target reads as zeros.
 */
function overlayOf([source]: readonly Chain[], target: Chain) {
  const [, below] = target.images;
  const zeroFrom = inSectors(below?.layer.size ?? 0);
  if (source === undefined || source.images.length < 2) return { zeroFrom };
  const select = (extent: Extent): boolean => extent.kind !== 'hole';
  // A cluster that the top of the source holds a part of is written whole: the rest is what the chain shows there.
  return { zeroFrom, disks: [describedBy(source.source, topAlone(source))], select };
}

/** What is known of the target before anything is copied to it. */
interface Target {
  /** The name of its backing file, if it is to be an overlay. */
  readonly backing: string | undefined;
  /** The name of its data file, if the user gave it one. */
  readonly dataFile?: string | undefined;
  /** What its backing file does not show reads as zeros. */
  readonly isZero: boolean;
  /** The format as the options of a new image set it. */
  readonly made?: ImageFormat | undefined;
}

/** Takes what is there (`-n`). */
function takeTarget(format: string, given: Given): Target {
  // With options that name its format it is judged when it is open.
  if (given.compress && !given.targetOptions) refuseCompression(format, new Map());
  checkCacheMode(given.cache, 'cache option');
  return { backing: given.backing, isZero: given.zeroTarget === true };
}

/** Makes the new image. */
async function makeTarget(
  name: string,
  format: string,
  size: number,
  sources: number,
  given: Given,
): Promise<Target> {
  const support = supportNamed(format);
  if (!support) throw new CommandError(`Unknown file format '${format}'`);
  schemeName(name);
  const table = creationTable(support);
  const values = parseCreation(table, given.lists);
  values.set('size', size);
  const { backing: backingName, backingFormat } = given;
  setBacking(table, values, { format, backing: backingName, backingFormat });
  const backing = backingReference(values);
  if (backing && sources > 1) {
    throw new CommandError(
      'Having a backing file for the target makes no sense when concatenating multiple input images',
    );
  }
  if (backing && backing.format === undefined) {
    throw new CommandError('Use of backing file requires explicit backing format');
  }
  if (given.compress) refuseCompression(format, values);
  checkCacheMode(given.cache, 'cache option');
  try {
    const { objects } = given;
    const unsafe = (given.cache ?? 'unsafe') === 'unsafe';
    const isZero = await makeImage(name, support, { size, backing, values, objects }, { unsafe });
    const dataFile = values.get('data_file')?.toString();
    return { backing: backing?.name, dataFile, isZero, made: madeFormat(support, values, objects) };
  } catch (error) {
    if (!isDiskError(error)) throw error;
    const message = `${name}: error while converting ${format}: ${error.message}`;
    throw new CommandError(message, { hint: openingHint(error), cause: error });
  }
}

function readSparse(text: string): number {
  const sparse = readSize('buffer size for sparse output')(text);
  if (sparse % 512 === 0 && sparse <= largestSparse) return sparse;
  throw new UsageError(
    'Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to 16777216. Select 0 to disable sparse detection (fully allocates output).',
  );
}

function readParallel(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && count <= mostParallel) return count;
  throw new UsageError(
    `Invalid number of coroutines. Allowed number of coroutines is between 1 and ${mostParallel}`,
  );
}
