/** `restore`: makes an image or fills an export with the state that a backup holds. */
import { unlink } from 'node:fs/promises';
import { openPoint } from '@strata/backup';
import { type BlockSource, DiskError, isDiskError } from '@strata/block';
import { isNbdUri } from '@strata/nbd';
import { progressRow, quietRow, rateOf, rateRow, reconnectRow } from '../arguments.ts';
import { command, type Given as GivenOptions } from '../command.ts';
import { compressing, levelRow, refuseCompression } from '../compression.ts';
import { copyAll } from '../copying.ts';
import { parseCreation, readOptionList } from '../creation.ts';
import { supportNamed } from '../known-formats.ts';
import { creationAnswer, creationTable, madeFormat, makeImage } from '../make.ts';
import { objectRow } from '../objects/objects.ts';
import { foldersOf, openingHint, openWritableDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { pathOf, schemeName } from '../places/schemes.ts';
import { type Progress, showProgress, silentProgress } from '../progress.ts';
import { CommandError, UsageError } from '../report.ts';

const options = {
  point: {
    name: 'point',
    value: 'NUMBER|CHECKPOINT',
    help: 'which backup; the newest if not given',
  },
  outputFormat: { letter: 'O', value: 'FMT', help: 'format of the target; raw if not given' },
  lists: {
    letter: 'o',
    value: 'OPTIONS',
    help: "options of the target's format, as name=value,...; '-o help' lists them",
    many: true,
    read: readOptionList,
  },
  existing: {
    letter: 'n',
    help: 'write into the target as it is, a device for example; exports need it not',
  },
  verify: {
    name: 'verify',
    help: 'compute the digest of every layer first, also of those not touched since',
  },
  compress: { letter: 'c', help: 'compress what is written (qcow2)' },
  level: levelRow,
  progress: progressRow,
  quiet: quietRow,
  rate: rateRow,
  reconnect: reconnectRow,
  objects: objectRow,
} as const satisfies OptionTable;

type Given = GivenOptions<typeof options>;

/** The verb. */
export const restore = command({
  summary: 'give back the state that a backup holds',
  operands: 'FOLDER TARGET',
  options,
  notes: [
    'Before a byte is written, the chain of the backup is checked: manifests, lengths, and the digests of layers\n',
    'that were touched since they were written. A TARGET that exists is refused without -n.\n',
  ].join(''),
  run: async ({ options, operands, objects }, terminal) => {
    const given = { ...options, objects };
    const [folder, target, more] = operands;
    const format = given.outputFormat ?? 'raw';
    const answer = creationAnswer(given.lists, format, target);
    if (answer !== undefined) {
      terminal.print(answer);
      return 0;
    }
    if (folder === undefined || target === undefined || more !== undefined)
      throw new UsageError('Expecting a folder and a target', { pointToHelp: true });
    refuseContradictions(given, format);
    const { layerFiles } = await import('../backup/layers.ts');
    const shown = given.progress && !given.quiet ? showProgress(terminal, 1) : silentProgress;
    try {
      const scrutiny = given.verify ? 'whole' : 'if-touched';
      const { chain, manifests } = await openPoint(folder, given.point, layerFiles, scrutiny);
      await using _ = chain;
      await restoreTo(target, format, chain.source, given, shown);
      shown.complete();
      shown.end();
      const [{ number, checkpoint } = { number: 0, checkpoint: undefined }] = manifests;
      const at = checkpoint === undefined ? '' : `, checkpoint ${checkpoint}`;
      if (!given.quiet) terminal.print(`Restored backup ${number}${at}.\n`);
    } catch (error) {
      shown.end();
      if (!isDiskError(error)) throw error;
      throw new CommandError(`Nothing was restored from '${folder}': ${error.message}`, { cause: error });
    }
    return 0;
  },
});

/** @throws {UsageError} @throws {CommandError} */
function refuseContradictions(given: Given, format: string): void {
  if (supportNamed(format) === undefined) throw new CommandError(`Unknown file format '${format}'`);
  if (given.existing && given.lists.length > 0)
    throw new UsageError('-o has no effect when skipping image creation');
  if (given.level !== undefined && !given.compress)
    throw new UsageError('--compression-level requires use of -c flag');
}

async function restoreTo(
  name: string,
  format: string,
  disk: BlockSource,
  given: Given,
  progress: Progress,
): Promise<void> {
  const { objects } = given;
  const exists = given.existing === true || isNbdUri(name);
  const { isZero, made } = exists
    ? { isZero: false, made: undefined }
    : await makeTarget(name, format, disk.size, given);
  try {
    await using target = await openWritableDisk(name, {
      allow: foldersOf([name]),
      format,
      made,
      objects,
      reconnectDelayMs: given.reconnect,
    });
    if (target.device.size < disk.size) {
      throw new CommandError(`'${name}' has ${target.device.size} bytes, and the backup is of ${disk.size}`);
    }
    const device = given.compress ? compressing(target, given.level) : target.device;
    await copyAll([disk], device, {
      ...(given.compress && { unit: device.caps.blockSize }),
      zeroFrom: isZero ? 0 : disk.size,
      sparse: 4096,
      ...rateOf(given),
      progress: progress.update,
    });
    await target.device.flush();
  } catch (error) {
    // Half a disk must not look like a whole one.
    if (!exists) await unlink(pathOf(name)).catch(() => undefined);
    throw error;
  }
}

/** Makes the new image, in a file that was not there. */
async function makeTarget(name: string, format: string, size: number, given: Given) {
  const { objects } = given;
  const support = supportNamed(format) as NonNullable<ReturnType<typeof supportNamed>>;
  const values = parseCreation(creationTable(support), given.lists);
  values.set('size', size);
  if (given.compress) refuseCompression(format, values);
  if (values.has('backing_file')) throw new CommandError('A restored disk has no backing file');
  try {
    schemeName(name);
    await refuseExisting(pathOf(name));
    const isZero = await makeImage(name, support, { size, backing: undefined, values, objects });
    return { isZero, made: madeFormat(support, values, objects) };
  } catch (error) {
    if (!isDiskError(error)) throw error;
    throw new CommandError(`${name}: error while creating ${format}: ${error.message}`, {
      hint: openingHint(error),
      cause: error,
    });
  }
}

async function refuseExisting(path: string): Promise<void> {
  const { lstat } = await import('node:fs/promises');
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  throw new DiskError('exists', `'${path}' exists; -n writes into it`);
}
