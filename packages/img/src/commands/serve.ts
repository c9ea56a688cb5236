/** `serve`: exports images over NBD until it is told to stop. */
import { closeSync, writeFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { isDiskError } from '@strata/block';
import type { Chain, WritableChain } from '@strata/chain';
import {
  type Export,
  formatNbdUri,
  isNbdUri,
  type ListenAddress,
  listen,
  type NbdServer,
  parseNbdUri,
} from '@strata/nbd';
import { allowRow, formatRow, laterRow } from '../arguments.ts';
import { command } from '../command.ts';
import { objectRow } from '../objects/objects.ts';
import { foldersOf, openAll, openDisk, openWritableDisk, type Wish } from '../open.ts';
import type { OptionTable, OptionValues } from '../options.ts';
import { serveLocks } from '../places/file.ts';
import { CommandError, complain, UsageError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

const standardPort = 10809;

const options = {
  socket: { letter: 'k', name: 'socket', value: 'PATH', help: 'listen on a unix socket' },
  bind: {
    letter: 'b',
    name: 'bind',
    value: 'ADDRESS',
    help: 'listen on this address; 127.0.0.1 if not given',
  },
  port: {
    letter: 'p',
    name: 'port',
    value: 'PORT',
    help: `listen on this TCP port, 0 for a free one; ${standardPort} if not given`,
    read: readPort,
  },
  exportName: { letter: 'x', name: 'export-name', value: 'NAME', help: 'name of the export' },
  description: { letter: 'D', name: 'description', value: 'TEXT', help: 'what the export is, for people' },
  format: { ...formatRow, name: 'format', help: 'format of the images; needed to write to raw ones' },
  readOnly: { letter: 'r', name: 'read-only', help: 'export for reading only' },
  shared: {
    letter: 'e',
    name: 'shared',
    value: 'NUM',
    help: 'clients at a time, 0 for no limit; 100 if not given',
    read: readCount,
  },
  readyFd: {
    name: 'ready-fd',
    value: 'N',
    help: 'write the URI to this descriptor and close it when clients may connect',
    read: readCount,
  },
  persistent: { letter: 't', name: 'persistent', help: 'stay when the last client leaves; always so' },
  allow: allowRow,
  depth: { letter: 'A', name: 'allocation-depth', help: 'offer qemu:allocation-depth; always so' },
  bitmap: laterRow({ letter: 'B', name: 'bitmap', value: 'NAME', help: 'offer a dirty bitmap' }),
  offset: laterRow({ letter: 'o', name: 'offset', value: 'OFFSET', help: 'export from this offset on' }),
  snapshot: laterRow({ letter: 's', name: 'snapshot', help: 'keep what is written in a temporary overlay' }),
  loaded: laterRow({
    letter: 'l',
    name: 'load-snapshot',
    value: 'SNAPSHOT',
    help: 'export an internal snapshot',
  }),
  tls: laterRow({ name: 'tls-creds', value: 'ID', help: 'speak TLS' }),
  objects: objectRow,
  imageOptions: laterRow({ name: 'image-opts', help: 'FILE is a list of image options' }),
} as const satisfies OptionTable;

type Given = OptionValues<typeof options>;

/** The verb. */
export const serve = command({
  summary: 'export images over NBD',
  operands: 'FILE...',
  options,
  notes: [
    'When clients may connect, the URI of each export is printed, a line each. An export\n',
    'has the name of its file; a single one also the empty name, or instead the one given\n',
    'with -x. SIGTERM or SIGINT stops: requests under way are answered, everything is\n',
    'flushed. A second signal does not wait for clients.\n',
  ].join(''),
  run: async ({ options: given, operands }, terminal) => {
    const address = addressOf(given);
    if (operands.length === 0) throw new UsageError('Expecting image file name', { pointToHelp: true });
    if (given.exportName !== undefined && operands.length > 1) {
      throw new UsageError("option '-x' names one export, and there are several images");
    }
    const wish = { allow: [...given.allow, ...foldersOf(operands)], format: given.format, locks: serveLocks };
    await using disks = await openAll<Chain | WritableChain>(operands, (name) =>
      given.readOnly ? openDisk(name, wish) : openToServe(name, wish),
    );
    const exports = operands.flatMap((name, index) => exportsOf(name, disks.opened[index], operands, given));
    const stop = stopSignals();
    await using server = await listenFor(exports, address, given.shared, terminal);
    announce(server, exports, given.readyFd, terminal);
    await stop.first;
    const closed = server.close();
    await Promise.race([closed, stop.second.then(() => server.close({ graceMs: 0 }))]);
    await closed;
    return 0;
  },
});

function addressOf({ socket, bind, port }: Given): ListenAddress {
  if (socket === undefined) return { host: bind ?? '127.0.0.1', port: port ?? standardPort };
  if (bind !== undefined || port !== undefined) {
    throw new UsageError("option '-k' listens on a unix socket and goes with neither '-b' nor '-p'");
  }
  return { path: resolve(socket) };
}

/** A raw image is written to only by those who say that it is raw: its first bytes are the guest's to choose. */
async function openToServe(name: string, wish: Wish): Promise<WritableChain> {
  try {
    return await openWritableDisk(name, wish);
  } catch (error) {
    if (!(error instanceof CommandError) || !isDiskError(error.cause)) throw error;
    if (error.cause.context.op !== 'probe') throw error;
    throw new CommandError(`${error.message}, or '-r' to export it for reading`, { cause: error.cause });
  }
}

/** The exports of one image, the one with the shortest URI first. */
function exportsOf(
  name: string,
  chain: Chain | WritableChain | undefined,
  all: readonly string[],
  { description, exportName }: Given,
): readonly Export[] {
  if (chain === undefined) return [];
  const disk = 'device' in chain ? { device: chain.device } : { source: chain.source };
  const names =
    exportName === undefined ? [...(all.length === 1 ? [''] : []), shortName(name)] : [exportName];
  return names.map((each) => ({ name: each, ...disk, ...(description !== undefined && { description }) }));
}

function shortName(name: string): string {
  return isNbdUri(name) ? parseNbdUri(name).exportName : basename(name);
}

async function listenFor(
  exports: readonly Export[],
  address: ListenAddress,
  clients: number | undefined,
  terminal: Terminal,
): Promise<NbdServer> {
  const twice = exports.find(
    ({ name }, index) => exports.findIndex((other) => other.name === name) !== index,
  );
  if (twice) throw new CommandError(`two images would have the export name '${twice.name}'`);
  try {
    return await listen({
      exports,
      address,
      ...(clients !== undefined && { maxConnections: clients || Number.MAX_SAFE_INTEGER }),
      onError: (error) => complain(terminal, String((error as Error).stack ?? error)),
    });
  } catch (error) {
    if (!isDiskError(error)) throw error;
    const where =
      'path' in address ? address.path : 'port' in address ? `${address.host}:${address.port}` : '';
    throw new CommandError(`Could not listen on '${where}': ${error.message}`, { cause: error });
  }
}

/** Says where clients find the exports: a line for each image. */
function announce(
  server: NbdServer,
  exports: readonly Export[],
  readyFd: number | undefined,
  terminal: Terminal,
): void {
  const { address } = server;
  if ('fd' in address) return;
  const seen = new Set<unknown>();
  let lines = '';
  for (const { name, device, source } of exports) {
    const disk = device ?? source;
    if (seen.has(disk)) continue;
    seen.add(disk);
    lines += `${formatNbdUri({ address, exportName: name, user: undefined })}\n`;
  }
  terminal.print(lines);
  if (readyFd === undefined) return;
  try {
    writeFileSync(readyFd, lines);
    closeSync(readyFd);
  } catch (error) {
    throw new CommandError(`Could not write to descriptor ${readyFd}: ${(error as Error).message}`);
  }
}

interface StopSignals {
  readonly first: Promise<void>;
  readonly second: Promise<void>;
}

/** The first and the second signal to stop, from now on. */
function stopSignals(): StopSignals {
  const heard: (() => void)[] = [];
  const next = (): Promise<void> => new Promise((resolve) => heard.push(resolve));
  const signals = { first: next(), second: next() };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => heard.shift()?.());
  return signals;
}

function readPort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new UsageError(`Invalid port '${text}': expected 0 to 65535`);
}

function readCount(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(count)) return count;
  throw new UsageError(`Invalid number '${text}'`);
}
