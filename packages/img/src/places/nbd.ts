/** Exports of NBD servers as places for images. A server keeps its own locks; there are none to take here. */
import { DiskError, type HostSource, hostFile, hostSource } from '@strata/block';
import type { Place, Places } from '@strata/chain';
import { formatNbdUri, openNbd, parseNbdUri } from '@strata/nbd';
import { changedFile, changedSource } from './host.ts';

/** Connections that requests are spread over, where a server lets a client have several. */
const connections = 4;

/** Exports, by their URIs. */
export const nbdPlaces: Places = {
  openSource: async (uri) => {
    const target = parseNbdUri(uri);
    const connection = await openNbd(target, { connections });
    const host = hostSource(connection.source, formatNbdUri(target));
    return placeOf(changedSource(host, connection));
  },
  openFile: async (uri) => {
    const target = parseNbdUri(uri);
    const connection = await openNbd(target, { connections });
    if (connection.device === undefined) {
      await connection[Symbol.asyncDispose]();
      throw new DiskError('denied', 'Could not open image: Permission denied', { path: uri });
    }
    const host = hostFile(connection.device, formatNbdUri(target));
    return placeOf(changedFile(host, connection));
  },
};

function placeOf<Host extends HostSource>(host: Host): Place<Host> {
  return { host, identity: undefined, realPath: undefined, lock: () => Promise.resolve() };
}
