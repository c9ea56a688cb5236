/** Exports of NBD servers as places for images. A server keeps its own locks; there are none to take here. */
import { DiskError, type HostSource, hostFile, hostSource } from '@strata/block';
import type { Place, Places } from '@strata/chain';
import { type ClientTls, type NbdTarget, openNbd, parseNbdUri } from '@strata/nbd';
import type { FileManner } from './file.ts';
import { changedFile, changedSource } from './host.ts';

/** Connections that requests are spread over, where a server lets a client have several. */
const connections = 4;

/** Exports, by their URIs. @param tls for URIs that say nothing of TLS */
export function nbdPlaces(
  { reconnectDelayMs }: Pick<FileManner, 'reconnectDelayMs'>,
  tls?: ClientTls,
): Places {
  const options = { connections, reconnectDelayMs, ...(tls && { tls }) };
  return {
    openSource: async (uri) => {
      const target = parseNbdUri(uri);
      const connection = await openNbd(target, options);
      const host = hostSource(connection.source, nameOf(target));
      return placeOf(changedSource(host, connection));
    },
    openFile: async (uri) => {
      const target = parseNbdUri(uri);
      const connection = await openNbd(target, options);
      if (connection.device === undefined) {
        await connection[Symbol.asyncDispose]();
        throw new DiskError('denied', 'Could not open image: Permission denied', { path: uri });
      }
      const host = hostFile(connection.device, nameOf(target));
      return placeOf(changedFile(host, connection));
    },
  };
}

/** What reports call an export: as QEMU's tools do, not percent-encoded, and without the slash of an empty name. */
function nameOf({ address, exportName, tls }: NbdTarget): string {
  const scheme = tls === undefined ? 'nbd' : 'nbds';
  const name = exportName === '' ? '' : `/${exportName}`;
  if ('path' in address) return `${scheme}+unix://${name}?socket=${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${scheme}://${host}:${address.port}${name}`;
}

function placeOf<Host extends HostSource>(host: Host): Place<Host> {
  return { host, identity: undefined, realPath: undefined, lock: () => Promise.resolve() };
}
