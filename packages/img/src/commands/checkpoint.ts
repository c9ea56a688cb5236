/** `checkpoint`: moments of one or several disks from which on changes are remembered. */
import {
  checkpointsIn,
  checkSeries,
  createCheckpoint,
  dropCheckpoints,
  finishCheckpoint,
  standardSeries,
} from '@strata/backup';
import { bitmapsOf } from '@strata/bitmap';
import { isDiskError } from '@strata/block';
import { allowRow, formatRow, outputRow, quietRow, readSize, shareRow, wantsJson } from '../arguments.ts';
import { type ListedCheckpoint, listedJson, listedLines } from '../backup/checkpoint-print.ts';
import type { NodeChange } from '../backup/node-checkpoints.ts';
import { command, type Given as GivenOptions } from '../command.ts';
import { objectRow } from '../objects/objects.ts';
import { openDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { formatJson } from '../print/json.ts';
import { CommandError, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  series: {
    name: 'series',
    value: 'NAME',
    help: `the series of checkpoints; ${standardSeries} if not given`,
  },
  granularity: {
    letter: 'g',
    name: 'granularity',
    value: 'BYTES',
    help: 'of new bitmaps; the cluster size, 4k to 64k, if not given',
    read: readSize('granularity'),
  },
  control: {
    name: 'control',
    value: 'SOCKET',
    help: 'the images are nodes of the server that is steered by QMP on this unix socket',
  },
  scratch: {
    name: 'scratch',
    value: 'FOLDER',
    help: 'hold the disks still for the backup; what is overwritten is copied into FOLDER first',
  },
  format: formatRow,
  share: shareRow,
  allow: allowRow,
  quiet: quietRow,
  output: outputRow,
  objects: objectRow,
} as const satisfies OptionTable;

type Given = GivenOptions<typeof options>;

const verbs = ['create', 'list', 'done', 'drop', 'release'] as const;
type Verb = (typeof verbs)[number];

/** The verb. */
export const checkpoint = command({
  summary: 'remember what changes in disks from a moment on, for incremental backups',
  operands: '(create | list | done | drop | release) IMAGE...',
  options,
  notes: [
    'create  begins a new checkpoint on all the images at once, or on none; the former one is frozen and\n',
    '        kept until its changes have been backed up\n',
    'list    shows the checkpoints, and how much has changed since each\n',
    'done    after a backup that succeeded: drops all but the newest\n',
    'drop    drops all of the series; the next backup has to be a full one\n',
    'release gives up the copies in the scratch folder, and keeps what is frozen\n\n',
    'After a backup that failed do nothing: the next checkpoint and the next backup take the\n',
    'frozen changes along. After a crash, run create again with the same images.\n\n',
    'With --control the images are nodes of a running server (QEMU, its storage daemon, img serve).\n',
    'With --scratch too, each is held still for the backup and exported as SERIES-NODE: what the guest\n',
    'overwrites meanwhile is kept in the folder, which the server must see by the same name.\n',
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    const [word, ...names] = operands;
    const verb = verbs.find((known) => known === word);
    if (verb === undefined || names.length === 0) {
      const message = `Expecting one of ${verbs.join(', ')}, and at least one image`;
      throw new UsageError(message, { pointToHelp: true });
    }
    if (given.control === undefined && (given.scratch !== undefined || verb === 'release')) {
      throw new UsageError('scratch images are made for a running server only: name it with --control');
    }
    try {
      await carryOut(verb, names, { ...given, objects }, terminal);
    } catch (error) {
      if (!isDiskError(error)) throw error;
      throw new CommandError(`Could not ${doing[verb]}: ${error.message}`, { cause: error });
    }
    return 0;
  },
});

const doing: Readonly<Record<Verb, string>> = {
  create: 'create a checkpoint',
  list: 'list the checkpoints',
  done: 'drop the older checkpoints',
  drop: 'drop the checkpoints',
  release: 'release the disks',
};

async function carryOut(
  verb: Verb,
  names: readonly string[],
  given: Given,
  terminal: Terminal,
): Promise<void> {
  const json = wantsJson(given.output);
  const { series = standardSeries } = given;
  checkSeries(series);
  if (verb === 'list') {
    const found = await list(names, series, given);
    terminal.print(json ? formatJson(listedJson(found)) : listedLines(found));
    return;
  }
  const done = await change(verb, names, series, given);
  const key = verb === 'create' ? 'checkpoint' : 'dropped';
  if (json) {
    const rows = done.map(({ image, checkpoint: name, export: shown }) => ({
      image,
      [key]: name,
      export: shown,
    }));
    terminal.print(formatJson(rows));
  } else if (!given.quiet) {
    for (const { image, checkpoint: name, export: shown } of done) {
      const where = shown === undefined ? '' : `, export ${shown}`;
      terminal.print(verb === 'create' ? `${image}: ${name}${where}\n` : `${image}: dropped ${name}\n`);
    }
  }
}

const ofFiles = { create: createCheckpoint, done: finishCheckpoint, drop: dropCheckpoints } as const;

async function change(
  verb: Exclude<Verb, 'list'>,
  names: readonly string[],
  series: string,
  { control, scratch, format, granularity, objects }: Given,
): Promise<readonly NodeChange[]> {
  if (control !== undefined) {
    const { changeNodes } = await import('../backup/node-checkpoints.ts');
    return await changeNodes(verb, names, { control, scratch, series, granularity });
  }
  if (verb === 'release') return [];
  const { openCheckpointImages } = await import('../backup/file-checkpoints.ts');
  await using opened = await openCheckpointImages(names, { format, objects }, granularity);
  return await ofFiles[verb](opened.images, series);
}

async function list(
  names: readonly string[],
  series: string,
  { control, scratch, granularity, format, share, allow, objects }: Given,
): Promise<readonly ListedCheckpoint[]> {
  if (control !== undefined) {
    const { listNodes } = await import('../backup/node-checkpoints.ts');
    return await listNodes(names, { control, scratch, series, granularity });
  }
  const found: ListedCheckpoint[] = [];
  for (const image of names) {
    await using chain = await openDisk(image, { allow, format, share, objects });
    const bitmaps = bitmapsOf(chain.images[0]?.layer ?? {});
    for (const each of checkpointsIn((await bitmaps?.list()) ?? [], series)) {
      const dirty = each.inconsistent ? undefined : (await bitmaps?.load(each.name))?.count;
      found.push({ image, checkpoint: each, dirty });
    }
  }
  return found;
}
