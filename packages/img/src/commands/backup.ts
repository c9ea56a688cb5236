/** `backup`: takes backups of an image or an NBD export into a folder, each a thin layer on the one before. */
import {
  checkSeries,
  fullHelps,
  lockFolder,
  readPoints,
  type Steering,
  standardSeries,
  takeBackup,
  verifyFolder,
} from '@strata/backup';
import { inconsistentUse } from '@strata/bitmap';
import { isDiskError } from '@strata/block';
import { isNbdUri } from '@strata/nbd';
import {
  allowRow,
  formatRow,
  imageOptionsRow,
  outputRow,
  progressRow,
  quietRow,
  rateOf,
  rateRow,
  reconnectRow,
  shareRow,
  wantsJson,
} from '../arguments.ts';
import type { OpenedSource } from '../backup/file-source.ts';
import { command, type Given as GivenOptions } from '../command.ts';
import { levelRow } from '../compression.ts';
import { objectRow } from '../objects/objects.ts';
import type { OptionTable } from '../options.ts';
import { formatJson } from '../print/json.ts';
import { showProgress, silentProgress } from '../progress.ts';
import { CommandError, complain, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const options = {
  full: { name: 'full', help: 'take a full backup, which begins a new chain' },
  incremental: { name: 'incremental', help: 'take an incremental backup, or fail' },
  bitmap: {
    name: 'bitmap',
    value: 'NAME',
    help: 'the bitmap that tells what changed since the newest backup; several are taken together',
    many: true,
  },
  since: {
    name: 'since',
    value: 'CHECKPOINT',
    help: 'the checkpoint at which the bitmaps begin, if none is called after it',
  },
  checkpoint: {
    name: 'checkpoint',
    value: 'NAME',
    help: 'the checkpoint whose state SOURCE has, where it does not tell itself',
  },
  series: {
    name: 'series',
    value: 'NAME',
    help: `the series of checkpoints; ${standardSeries} if not given`,
  },
  moved: { name: 'moved', help: 'SOURCE is the disk of the newest backup, although it has another name now' },
  frozen: { name: 'frozen', help: 'SOURCE is an export that does not change: backups of it can be resumed' },
  control: {
    name: 'control',
    value: 'SOCKET',
    help: 'SOURCE is an export of the server with this QMP socket: ask it whether the disk was held still',
  },
  resume: { name: 'resume', help: 'go on with the backup that was interrupted, or fail' },
  verify: { name: 'verify', help: 'compare the backup with SOURCE; without SOURCE check all of FOLDER' },
  list: { name: 'list', help: 'list the backups in FOLDER' },
  compress: { letter: 'c', help: 'compress what is written' },
  level: levelRow,
  format: { ...formatRow, help: 'format of SOURCE; without it the first bytes tell' },
  share: shareRow,
  allow: allowRow,
  progress: progressRow,
  quiet: quietRow,
  rate: rateRow,
  reconnect: {
    ...reconnectRow,
    help: 'how long to try to connect anew to a lost NBD server; 60 if not given',
  },
  output: outputRow,
  objects: objectRow,
  imageOptions: { ...imageOptionsRow, help: 'SOURCE is a list of image options and not a name' },
} as const satisfies OptionTable;

type Given = GivenOptions<typeof options>;

const standardReconnectMs = 60_000;

/** The verb. */
export const backup = command({
  summary: 'take full and incremental backups into a folder',
  operands: '(SOURCE FOLDER | --list FOLDER | --verify FOLDER)',
  options,
  notes: [
    'A cycle for cron, of images that are not in use:\n\n',
    '  img checkpoint create DISK && img backup DISK FOLDER && img checkpoint done DISK\n\n',
    'The first backup of a folder is a full one, the others hold what changed. If one fails,\n',
    'nothing is lost: the next one makes up for it. Of a running server:\n\n',
    '  img checkpoint create --control QMP --scratch DIR NODE\n',
    '  img backup --control QMP "nbd+unix:///backup-NODE?socket=SOCKET" FOLDER\n',
    '  img checkpoint done --control QMP --scratch DIR NODE\n\n',
    "'img restore FOLDER TARGET' gives back the newest state, or that of --point NUMBER.\n",
  ].join(''),
  run: async ({ options: given, operands, objects }, terminal) => {
    const json = wantsJson(given.output);
    if (given.list || (given.verify && operands.length === 1)) {
      return await showFolder(operands, given.list !== true, json, terminal);
    }
    const [source, folder, more] = operands;
    if (source === undefined || folder === undefined || more !== undefined)
      throw new UsageError('Expecting a source and a folder', { pointToHelp: true });
    await takeInto(source, folder, { ...given, objects }, json, terminal);
    return 0;
  },
});

async function takeInto(
  name: string,
  folder: string,
  given: Given,
  json: boolean,
  terminal: Terminal,
): Promise<void> {
  if (given.full && given.incremental) throw new UsageError('--full and --incremental exclude each other');
  if (given.level !== undefined && !given.compress)
    throw new UsageError('--compression-level requires use of -c flag');
  const { reportJson, reportLines } = await import('../backup/print.ts');
  const { layerFiles } = await import('../backup/layers.ts');
  const shown = given.progress && !given.quiet ? showProgress(terminal, 1) : silentProgress;
  try {
    await using server =
      given.control === undefined
        ? undefined
        : await (await import('../backup/steering.ts')).openSteering(given.control);
    await using source = await openSource(name, given, server);
    await using locked = await lockFolder(folder);
    const report = await takeBackup(source, locked, layerFiles, {
      kind: given.full ? 'full' : given.incremental ? 'incremental' : undefined,
      bitmaps: given.bitmap,
      since: given.since,
      moved: given.moved === true,
      resume: given.resume === true,
      verify: given.verify === true,
      ...(given.compress && { compress: { level: given.level } }),
      ...rateOf(given),
      progress: shown.update,
      note: (sentence) => complain(terminal, `note: ${sentence}`),
    });
    shown.complete();
    shown.end();
    if (json) terminal.print(formatJson(reportJson(report)));
    else if (!given.quiet) terminal.print(reportLines(report));
    if (!report.manifest.frozen)
      complain(
        terminal,
        `note: nothing vouches for '${name}' standing still while it was copied (--control, --frozen)`,
      );
    if (report.manifest.checkpoint === undefined)
      complain(terminal, `note: '${name}' is at no checkpoint: no backup can build upon this one`);
  } catch (error) {
    shown.end();
    throw cannotTake(name, error);
  }
}

async function openSource(name: string, given: Given, server: Steering | undefined): Promise<OpenedSource> {
  const { series = standardSeries, checkpoint, allow, format, share, imageOptions, objects } = given;
  checkSeries(series);
  const of = { series, checkpoint, frozen: given.frozen === true };
  if (isNbdUri(name) && !imageOptions) {
    const { openExportSource } = await import('../backup/export-source.ts');
    const reconnectDelayMs = given.reconnect ?? standardReconnectMs;
    return await openExportSource(name, { ...of, bitmaps: given.bitmap, reconnectDelayMs, server });
  }
  if (server !== undefined) throw new UsageError('--control goes with an NBD export');
  const { openFileSource } = await import('../backup/file-source.ts');
  return await openFileSource(name, { allow, format, share, imageOptions, objects }, of);
}

function cannotTake(name: string, error: unknown): unknown {
  if (!isDiskError(error)) return error;
  const { op } = error.context;
  const hint = op === fullHelps || op === inconsistentUse ? "'img backup --full' begins a new chain\n" : '';
  return new CommandError(`No backup of '${name}' was taken: ${error.message}`, { hint, cause: error });
}

/** The status of a folder in which a backup is damaged. */
const damaged = 2;

async function showFolder(
  operands: readonly string[],
  verify: boolean,
  json: boolean,
  terminal: Terminal,
): Promise<number> {
  const [folder, more] = operands;
  if (folder === undefined || more !== undefined)
    throw new UsageError('Expecting one folder', { pointToHelp: true });
  const { listJson, listLines } = await import('../backup/print.ts');
  const { layerFiles } = await import('../backup/layers.ts');
  const found = verify ? await verifyFolder(folder, layerFiles) : await readPoints(folder);
  terminal.print(json ? formatJson(listJson(found)) : listLines(found));
  return found.some(({ problem }) => problem !== undefined) ? damaged : 0;
}
