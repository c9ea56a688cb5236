/** Typed drivers for nbdkit and libnbd's tools. */
import { accepts, runOk, type Server, serve } from './run.ts';

/** Serves with `nbdkit` on a unix socket until it is disposed of. `args` name filters, plugin and parameters. */
export function nbdkit(socket: string, args: readonly string[]): Promise<Server> {
  return serve('nbdkit', ['-f', '-U', socket, ...args], () => accepts(socket));
}

/** An extent as `nbdinfo --map --json` prints it. */
export interface NbdExtent {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
  readonly description: string;
}

/** `nbdinfo`. */
export const nbdinfo = {
  /** The extents of a metadata context. */
  map: async (uri: string, context = 'base:allocation'): Promise<readonly NbdExtent[]> =>
    JSON.parse(await runOk('nbdinfo', [`--map=${context}`, '--json', uri])) as readonly NbdExtent[],
  /** What the server says of itself and its exports. */
  json: async (uri: string, ...args: readonly string[]): Promise<Record<string, unknown>> =>
    JSON.parse(await runOk('nbdinfo', ['--json', ...args, uri])) as Record<string, unknown>,
};
