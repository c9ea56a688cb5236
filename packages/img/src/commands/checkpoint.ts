/** `checkpoint`: moments of one or several disks from which on changes are remembered. */
import {
  type Checkpoint,
  checkpointsIn,
  checkSeries,
  createCheckpoint,
  dropCheckpoints,
  finishCheckpoint,
  type ImageCheckpoint,
  standardSeries,
} from '@strata/backup';
import { bitmapsOf } from '@strata/bitmap';
import { formatSize, isDiskError } from '@strata/block';
import { allowRow, formatRow, outputRow, quietRow, readSize, shareRow, wantsJson } from '../arguments.ts';
import { openCheckpointImages } from '../backup/file-checkpoints.ts';
import { command, type Given as GivenOptions } from '../command.ts';
import { objectRow } from '../objects/objects.ts';
import { openDisk } from '../open.ts';
import type { OptionTable } from '../options.ts';
import { formatJson, type JsonObject } from '../print/json.ts';
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
  format: formatRow,
  share: shareRow,
  allow: allowRow,
  quiet: quietRow,
  output: outputRow,
  objects: objectRow,
} as const satisfies OptionTable;

type Given = GivenOptions<typeof options>;

type Act = (names: readonly string[], given: Given, terminal: Terminal) => Promise<void>;

const acts: Readonly<Record<string, Act>> = {
  create: (names, given, terminal) => change(createCheckpoint, 'checkpoint', names, given, terminal),
  done: (names, given, terminal) => change(finishCheckpoint, 'dropped', names, given, terminal),
  drop: (names, given, terminal) => change(dropCheckpoints, 'dropped', names, given, terminal),
  list,
};

/** The verb. */
export const checkpoint = command({
  summary: 'remember what changes in disks from a moment on, for incremental backups',
  operands: '(create | list | done | drop) IMAGE...',
  options,
  notes: [
    'create  begins a new checkpoint on all the images at once, or on none; the former one is frozen and\n',
    '        kept until its changes have been backed up\n',
    'list    shows the checkpoints, and how much has changed since each\n',
    'done    after a backup that succeeded: drops all but the newest\n',
    'drop    drops all of the series; the next backup has to be a full one\n\n',
    'After a backup that failed do nothing: the next checkpoint and the next backup take the\n',
    'frozen changes along. After a crash, run create again with the same images.\n',
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    const [verb = '', ...names] = operands;
    const act = Object.hasOwn(acts, verb) ? acts[verb] : undefined;
    if (act === undefined || names.length === 0) {
      const message = 'Expecting one of create, list, done and drop, and at least one image';
      throw new UsageError(message, { pointToHelp: true });
    }
    try {
      await act(names, { ...given, objects }, terminal);
    } catch (error) {
      if (!isDiskError(error)) throw error;
      throw new CommandError(`Could not ${doing[verb]}: ${error.message}`, { cause: error });
    }
    return 0;
  },
});

const doing: Readonly<Record<string, string>> = {
  create: 'create a checkpoint',
  list: 'list the checkpoints',
  done: 'drop the older checkpoints',
  drop: 'drop the checkpoints',
};

async function change(
  run: typeof createCheckpoint,
  key: 'checkpoint' | 'dropped',
  names: readonly string[],
  given: Given,
  terminal: Terminal,
): Promise<void> {
  const { series = standardSeries, format, objects, granularity } = given;
  const json = wantsJson(given.output);
  await using opened = await openCheckpointImages(names, { format, objects }, granularity);
  const done = await run(opened.images, series);
  show(done, key, json, given, terminal);
}

function show(
  done: readonly ImageCheckpoint[],
  key: 'checkpoint' | 'dropped',
  json: boolean,
  { quiet }: Given,
  terminal: Terminal,
): void {
  if (json) terminal.print(formatJson(done.map(({ image, checkpoint: name }) => ({ image, [key]: name }))));
  else if (!quiet)
    for (const { image, checkpoint: name } of done)
      terminal.print(key === 'dropped' ? `${image}: dropped ${name}\n` : `${image}: ${name}\n`);
}

async function list(names: readonly string[], given: Given, terminal: Terminal): Promise<void> {
  const { series = standardSeries, format, share, allow, objects } = given;
  checkSeries(series);
  const json = wantsJson(given.output);
  const found: JsonObject[] = [];
  for (const image of names) {
    await using chain = await openDisk(image, { allow, format, share, objects });
    const bitmaps = bitmapsOf(chain.images[0]?.layer ?? {});
    for (const each of checkpointsIn((await bitmaps?.list()) ?? [], series)) {
      const dirty = each.inconsistent ? undefined : (await bitmaps?.load(each.name))?.count;
      found.push({ image, checkpoint: each.name, state: stateOf(each), 'dirty-bytes': dirty });
    }
  }
  terminal.print(json ? formatJson(found) : listLines(found));
}

function stateOf({ enabled, inconsistent, parts }: Checkpoint): string {
  if (inconsistent) return 'inconsistent';
  if (parts.unfinishedOf !== undefined) return 'unfinished';
  return enabled ? 'recording' : 'frozen';
}

function listLines(found: readonly JsonObject[]): string {
  const rows = found.map(({ image, checkpoint: name, state, 'dirty-bytes': dirty }) => [
    String(name),
    String(state),
    typeof dirty === 'number' ? formatSize(dirty) : '-',
    String(image),
  ]);
  return [['CHECKPOINT', 'STATE', 'CHANGED', 'IMAGE'], ...rows]
    .map(
      ([name = '', state = '', changed = '', image = '']) =>
        `${name.padEnd(32)}${state.padEnd(14)}${changed.padEnd(12)}${image}\n`,
    )
    .join('');
}
