/**
 * An NBD export as what a backup is taken of: its `qemu:dirty-bitmap:` contexts tell what changed.
 *
 * That an export stands still cannot be seen. One that `img checkpoint` made names its checkpoint in its description, and
 * whether it still stood still at the end is asked of the server. Of others the user may vouch for it.
 */
import { assertHeld, checkpointIn, diskOf, parseCheckpoint, type Steering } from '@strata/backup';
import { isDiskError, joinedSources, nullDevice } from '@strata/block';
import { describeExports, type NbdConnection, openNbd, parseNbdUri } from '@strata/nbd';
import { inSectors } from '../disk-size.ts';
import { CommandError } from '../report.ts';
import type { OpenedSource, SourceWish } from './file-source.ts';

const prefix = 'qemu:dirty-bitmap:';
/** Connections that requests are spread over, where a server lets a client have several. */
const connections = 4;
const dirty = 1;

/** How an export is asked for. */
export interface ExportWish extends SourceWish {
  /** Bitmaps that the user named. */
  readonly bitmaps: readonly string[];
  readonly reconnectDelayMs: number;
  /** The server that holds the export still; undefined: there is none to ask. */
  readonly server: Steering | undefined;
}

/** @throws {CommandError} @throws {DiskError} */
export async function openExportSource(uri: string, wish: ExportWish): Promise<OpenedSource> {
  const { known, told } = await describe(uri);
  const checkpoint = wish.checkpoint ?? told;
  const { server } = wish;
  const series = known.filter((name) => parseCheckpoint(name)?.series === wish.series);
  const wanted = [...new Set([...wish.bitmaps, ...series])];
  const contexts = wanted.map((name) => prefix + name);
  const { reconnectDelayMs } = wish;
  let connection: NbdConnection;
  try {
    connection = await openNbd(uri, { connections, contexts, reconnectDelayMs });
  } catch (error) {
    if (!isDiskError(error)) throw error;
    throw new CommandError(`Could not open '${uri}': ${error.message}`, { cause: error });
  }
  const { source, info } = connection;
  if (server !== undefined && told === undefined) {
    await connection[Symbol.asyncDispose]();
    throw new CommandError(`'${uri}' is not an export that 'img checkpoint create --scratch' made`);
  }
  // An export may end inside a sector, and a layer may not.
  const size = inSectors(source.size);
  return {
    disk: size === source.size ? source : joinedSources([source, nullDevice(size - source.size)]),
    name: uri,
    frozen: wish.frozen || (server !== undefined && told === checkpoint),
    ...(server && told && { assertFrozen: () => assertHeld(server, diskOf(told)) }),
    checkpoint,
    bitmaps: info.contexts.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length)),
    changes: async function* (bitmap) {
      for (let at = 0; at < source.size; ) {
        const { length, flags } = await connection.contextAt(prefix + bitmap, at, source.size - at);
        const end = at + length === source.size ? size : at + length;
        if ((flags & dirty) !== 0) yield { offset: at, length: end - at };
        at += length;
      }
    },
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
}

/** What the server tells of the export: servers that list nothing tell nothing. */
async function describe(uri: string): Promise<{ known: readonly string[]; told: string | undefined }> {
  try {
    const target = parseNbdUri(uri);
    const found = (await describeExports(target)).find(({ name }) => name === target.exportName);
    const known = (found?.contexts ?? []).filter((name) => name.startsWith(prefix));
    const told = checkpointIn(found?.description);
    return { known: known.map((name) => name.slice(prefix.length)), told };
  } catch (error) {
    if (!isDiskError(error)) throw error;
    return { known: [], told: undefined };
  }
}
