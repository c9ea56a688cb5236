/**
 * A server that is steered while it runs: `serve --control`.
 *
 * The commands are those of QEMU's storage daemon, under its names, with its arguments, replies and sentences.
 */
import { JobList, type LiveDisk } from '@strata/live';
import type { Export, NbdServer } from '@strata/nbd';
import { command, type JsonObject, listenQmp, type QmpCommand, type QmpServer } from '@strata/qmp';
import type { Wish } from '../open.ts';
import { version } from '../version.ts';
import type { ActionKind } from './action.ts';
import { backupActions } from './backup-actions.ts';
import { bitmapActions } from './bitmap-actions.ts';
import { bitmapCommands } from './bitmap-commands.ts';
import { blockdevCommands } from './blockdev-commands.ts';
import { commitCommand } from './commit-command.ts';
import { exportCommands } from './export-commands.ts';
import { ControlExports } from './exports.ts';
import { Graph } from './graph.ts';
import { jobCommands } from './job-commands.ts';
import { queryCommands } from './query-commands.ts';
import { snapshotActions } from './snapshot-actions.ts';
import type { Steering } from './steering.ts';
import { structureCommands } from './structure-commands.ts';
import { transactionCommand } from './transaction.ts';

export { Graph };

/** The QEMU whose commands these are. */
const likeQemu = { major: 7, minor: 2, micro: 0 };

/** What is steered. */
export interface ControlOptions {
  /** Of the socket. */
  readonly path: string;
  readonly graph: Graph;
  readonly nbd: NbdServer;
  /** The exports that the server begins with. */
  readonly served: readonly ServedDisk[];
  readonly wish: Wish;
  readonly report: (error: unknown) => void;
}

/** An export of a disk of the graph. */
export interface ServedDisk {
  readonly offered: Export;
  readonly disk: LiveDisk;
  /** Gives back what the export keeps busy. */
  release(): void;
}

/** A socket at which commands are taken. Disposing of it ends that, after the replies that are under way. */
export interface Control extends AsyncDisposable {
  /** Resolves when `quit` has been commanded. */
  readonly quit: Promise<void>;
}

/** Takes commands from now on. @throws {DiskError} for the path of the socket */
export async function openControl(options: ControlOptions): Promise<Control> {
  const { path, graph, nbd, wish, report } = options;
  let stop: () => void = () => undefined;
  const quit = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const emit: Steering['emit'] = (event, data) => server.emit(event, data);
  const deleted = (id: string): void => emit('BLOCK_EXPORT_DELETED', { id });
  const exports = new ControlExports(nbd, graph, deleted, report);
  for (const { offered, disk, release } of options.served) exports.adopt(offered.name, disk, release);
  const jobs = new JobList(({ event, data }) => emit(event, data as JsonObject));
  const steering = { graph, nbd, exports, jobs, wish, emit, stop, report };
  const server: QmpServer = await listenQmp({
    path,
    version: { qemu: likeQemu, package: `strata img ${version}` },
    commands: commandsOf(steering),
    onError: report,
  });
  const dispose = async (): Promise<void> => {
    // Clients hear how their jobs end; then there are no clients, and no new jobs.
    await jobs.endAll();
    await server[Symbol.asyncDispose]();
    await jobs.endAll();
  };
  return { quit, [Symbol.asyncDispose]: dispose };
}

/** All commands. A family of them is a line here and a file beside this one, its steps of transactions a line too. */
function commandsOf(steering: Steering): readonly QmpCommand[] {
  const bitmaps = bitmapActions(steering);
  const structure = { ...snapshotActions(steering), ...backupActions(steering) };
  const actions: Readonly<Record<string, ActionKind>> = { ...bitmaps, ...structure };
  return [
    ...queryCommands(steering),
    ...exportCommands(steering),
    ...blockdevCommands(steering),
    ...bitmapCommands(steering, bitmaps),
    ...structureCommands(steering, structure),
    commitCommand(steering),
    ...jobCommands(steering),
    transactionCommand(steering, actions),
    command('quit', {}, () => {
      steering.stop();
      return undefined;
    }),
  ];
}
