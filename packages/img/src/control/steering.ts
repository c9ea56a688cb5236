/** What the commands of a steered server work with. Each family of commands is a file beside this one. */
import type { JobList } from '@strata/live';
import type { NbdServer } from '@strata/nbd';
import type { JsonObject } from '@strata/qmp';
import type { Wish } from '../open.ts';
import type { ControlExports } from './exports.ts';
import type { Graph } from './graph.ts';

/** A server that is steered. */
export interface Steering {
  readonly graph: Graph;
  readonly nbd: NbdServer;
  readonly exports: ControlExports;
  /** What goes on with the disks. */
  readonly jobs: JobList;
  /** How images are opened that commands name. */
  readonly wish: Wish;
  /** Tells all clients of an event. */
  emit(event: string, data?: JsonObject): void;
  /** Ends the server as a signal does. */
  stop(): void;
  /** Hears of what goes wrong when nobody waits for it. */
  report(error: unknown): void;
}
