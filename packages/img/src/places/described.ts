/**
 * Places of images that the user described node by node: the file or the export that a protocol node names.
 */
import { DiskError } from '@strata/block';
import type { Places } from '@strata/chain';
import type { ClientTls, NbdAddress } from '@strata/nbd';
import { formatNbdUri } from '@strata/nbd/uri';
import type { Objects } from '../objects/objects.ts';
import type { ImageNode, Protocol, ProtocolNode } from '../typed/image-node.ts';
import { type NodeOptions, nodeOptions } from '../typed/node-options.ts';
import { type FileManner, filePlaces, unlocked } from './file.ts';

/** Where a protocol node leads: a path or a URI, and who opens it. */
export interface DescribedPlace {
  readonly name: string;
  places(manner: FileManner): Promise<Places>;
}

/** Where a node leads. @throws {DiskError} for options that it does not know or that lead nowhere */
export function describedPlace(node: ProtocolNode, objects: Objects): DescribedPlace {
  const options = nodeOptions(node.options, objects);
  const place = protocols[node.driver](options);
  const [unknown] = options.rest();
  if (unknown === undefined) return place;
  throw new DiskError('invalid', `Block protocol '${node.driver}' doesn't support the option '${unknown}'`);
}

const protocols: Readonly<Record<Protocol, (options: NodeOptions) => DescribedPlace>> = {
  file: (options) => {
    const name = options.text('filename');
    if (name === undefined || name === '') {
      throw new DiskError('invalid', "The 'file' block driver requires a file name");
    }
    const locking = options.choice('locking', ['auto', 'on', 'off']);
    options.choice('aio', ['threads', 'native', 'io_uring']);
    options.bytes('aio-max-batch');
    options.switch('drop-cache');
    const manner = (given: FileManner) => (locking === 'off' ? { ...given, locks: unlocked } : given);
    return { name, places: async (given) => filePlaces(manner(given)) };
  },
  nbd: (options) => {
    const address = addressOf(options);
    const exportName = options.text('export') ?? '';
    const tls = tlsOf(options);
    const reconnectDelayMs = delayOf(options);
    refuseLater(options);
    const name = formatNbdUri({ address, exportName, user: undefined });
    return {
      name,
      places: async (given) => {
        const { nbdPlaces } = await import('./nbd.ts');
        return nbdPlaces(reconnectDelayMs === undefined ? given : { reconnectDelayMs }, await tls?.());
      },
    };
  },
};

function addressOf(options: NodeOptions): NbdAddress {
  const [path, host, port] = [options.text('path'), options.text('host'), options.text('port')];
  if (path !== undefined && host !== undefined) {
    throw new DiskError('invalid', 'path and host may not be used at the same time');
  }
  if (path !== undefined) {
    if (port !== undefined) throw new DiskError('invalid', 'port may not be used without host');
    return { path };
  }
  if (host !== undefined) return { host, port: readPort(port ?? '10809') };
  if (port !== undefined) throw new DiskError('invalid', 'port may not be used without host');
  return serverOf(options);
}

function serverOf(options: NodeOptions): NbdAddress {
  const text = (name: string): string => {
    const value = options.text(`server.${name}`);
    if (value === undefined) throw new DiskError('invalid', `Parameter '${name}' is missing`);
    return value;
  };
  if (!options.rest().some((name) => name.startsWith('server.'))) {
    throw new DiskError('invalid', 'NBD server address missing');
  }
  const type = text('type');
  if (type === 'unix') return { path: text('path') };
  if (type === 'inet') return { host: text('host'), port: readPort(text('port')) };
  if (type === 'fd' || type === 'vsock') {
    throw new DiskError('not-supported', `NBD servers at addresses of type '${type}' are not supported`);
  }
  throw new DiskError('invalid', `Parameter 'type' does not accept value '${type}'`);
}

function readPort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65_535) return port;
  throw new DiskError('invalid', `'${text}' is not a port: expected a number from 1 to 65535`);
}

/** How the connection is to be encrypted; the code for it is loaded when it is opened. */
function tlsOf(options: NodeOptions): (() => Promise<ClientTls>) | undefined {
  const [id, hostname] = [options.text('tls-creds'), options.text('tls-hostname')];
  const { objects } = options;
  if (id === undefined) {
    if (hostname === undefined) return undefined;
    throw new DiskError('invalid', "'tls-hostname' is not permitted without 'tls-creds'");
  }
  return async () => (await import('../objects/tls-creds.ts')).clientTls(objects, id, hostname);
}

/** What the client cannot do is refused by its name. */
function refuseLater(options: NodeOptions): void {
  const refused = options.rest().find((name) => name === 'x-dirty-bitmap');
  if (refused !== undefined) throw new DiskError('not-supported', `option '${refused}' is not supported yet`);
  if ((options.text('open-timeout') ?? '0') !== '0')
    throw new DiskError('not-supported', "option 'open-timeout' is not supported yet");
}

/** `reconnect-delay`, of seconds. */
function delayOf(options: NodeOptions): number | undefined {
  const text = options.text('reconnect-delay');
  if (text === undefined) return undefined;
  if (/^\d{1,6}$/.test(text)) return 1000 * Number(text);
  throw new DiskError('invalid', "Parameter 'reconnect-delay' expects a number of seconds");
}

/** Refuses to write to what is described as read-only. @throws {DiskError} read-only */
export function checkWritable(node: ImageNode): void {
  for (let each: ImageNode | undefined = node; each; each = each.kind === 'format' ? each.file : undefined) {
    if (each.readOnly) throw new DiskError('read-only', 'Block node is read-only');
    if (each.detectZeroes) {
      throw new DiskError('not-supported', "option 'detect-zeroes' is not supported for writing");
    }
  }
}
