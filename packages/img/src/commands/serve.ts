/** `serve`: exports images over NBD until it is told to stop. */
import { resolve } from 'node:path';
import { isDiskError } from '@strata/block';
import {
  type Export,
  type ListenAddress,
  listen,
  type NbdServer,
  type ServerObserver,
  type ServerTls,
} from '@strata/nbd';
import { command } from '../command.ts';
import { CommandError, UsageError } from '../report.ts';
import { chooseAddress } from '../serving/address.ts';
import { announceAt, urisOf, variablesFor } from '../serving/announce.ts';
import { clientTlsOf, serverTlsOf } from '../serving/encryption.ts';
import { openExports, servingWish } from '../serving/exports.ts';
import { openLog, type ServerLog } from '../serving/log.ts';
import { refuseContradictions, type ServeOptions, serveOptions } from '../serving/options.ts';
import {
  closedAtLast,
  closeServer,
  lastClientLeft,
  type StopSignals,
  stopSignals,
} from '../serving/stopping.ts';
import type { Terminal } from '../terminal.ts';

/** The verb. */
export const serve = command({
  summary: 'export images over NBD',
  operands: '[NAME=]FILE... [-- COMMAND [ARGUMENT]...]',
  options: serveOptions,
  notes: [
    'When clients may connect, the URI of each export is printed, a line each. An export\n',
    'has the name of its file; a single one also the empty name, or instead the one given\n',
    'with -x. SIGTERM or SIGINT stops: requests under way are answered, everything is\n',
    'flushed. A second signal does not wait for clients.\n\n',
    'A COMMAND runs while the images are served, on a unix socket of its own if none is\n',
    'given, with the variables uri, uris, unixsocket, port and exportname. When it ends the\n',
    'server stops, and the exit status is its own.\n\n',
    'A service manager may hand over the socket (LISTEN_FDS and LISTEN_PID).\n\n',
    'With --control each image is a node for commands: by its NAME, and without one disk0,\n',
    'disk1 and so on, by its place on the line. Images under it have generated names;\n',
    "'img ctl SOCKET query-named-block-nodes' tells them. Then a FILE may be missing.\n",
  ].join(''),
  run: async ({ options, objects, operands, afterDashes = [] }, terminal) => {
    const given = { ...options, objects };
    const files = operands.slice(0, operands.length - afterDashes.length);
    refuseContradictions(given, files, afterDashes);
    if (given.list) return await listServer(given, terminal);
    if (files.length === 0 && given.control === undefined)
      throw new UsageError('Expecting image file name', { pointToHelp: true });
    if (!given.fork) return await serveFiles(files, afterDashes, given, terminal);
    const { forkServer, isInBackground, unseenTerminal } = await import('../serving/daemon.ts');
    if (!isInBackground()) return await forkServer(terminal, given.readyFd);
    return await serveFiles(files, afterDashes, given, unseenTerminal);
  },
});

async function listServer(given: ServeOptions, terminal: Terminal): Promise<number> {
  const { listedAddress, printExports } = await import('../serving/list.ts');
  await printExports(listedAddress(given), await clientTlsOf(given), terminal);
  return 0;
}

async function serveFiles(
  files: readonly string[],
  words: readonly string[],
  given: ServeOptions,
  terminal: Terminal,
): Promise<number> {
  const isCaptive = words.length > 0;
  const tls = await serverTlsOf(given);
  const encrypted = tls !== undefined;
  await using chosen = await chooseAddress(given, { captive: isCaptive, encrypted });
  const log = openLog(given, terminal);
  const steered = given.control === undefined ? undefined : await import('../control/control.ts');
  await using graph = steered && new steered.Graph();
  await using opened = await openExports(files, given, graph);
  const { exports } = opened;
  using signals = stopSignals();
  const clients = lastClientLeft();
  const server = await listenFor(
    exports,
    chosen.address,
    { clients: given.shared, tls },
    [log, clients],
    log,
  );
  await using _server = closedAtLast(server);
  await using metrics =
    given.metrics === undefined ? undefined : await metricsFor(given.metrics, server, given);
  const report = (error: unknown): void =>
    log.error('bug', { stack: String((error as Error).stack ?? error) });
  await using control =
    given.control === undefined || graph === undefined
      ? undefined
      : await steered?.openControl({
          path: resolve(given.control),
          graph,
          nbd: server,
          served: opened.served,
          wish: servingWish(files, given),
          report,
        });
  const { writePidFile } = given.pidFile === undefined ? {} : await import('../serving/daemon.ts');
  using _pidFile = writePidFile?.(given.pidFile as string);
  const uris = urisOf(server, exports, { encrypted });
  log.info('listening', { uris, metrics: metrics?.url });
  await announce(uris, given, isCaptive, terminal);
  const status = isCaptive
    ? await runWords(words, variablesFor(server, uris, exports), signals)
    : await untilStopped(signals, [given.once ? clients.done : undefined, control?.quit]);
  log.info('stopping');
  await control?.[Symbol.asyncDispose]();
  await closeServer(server, signals);
  log.info('stopped');
  return status;
}

async function listenFor(
  exports: readonly Export[],
  address: ListenAddress,
  { clients, tls }: { readonly clients: number | undefined; readonly tls: ServerTls | undefined },
  observers: readonly ServerObserver[],
  log: ServerLog,
): Promise<NbdServer> {
  try {
    return await listen({
      exports,
      address,
      ...(tls && { tls }),
      ...(clients !== undefined && { maxConnections: clients || Number.MAX_SAFE_INTEGER }),
      observer: {
        connected: (client) => observers.forEach((each) => void each.connected?.(client)),
        entered: (client) => observers.forEach((each) => void each.entered?.(client)),
        left: (client) => observers.forEach((each) => void each.left?.(client)),
      },
      onError: (error) => log.error('bug', { stack: String((error as Error).stack ?? error) }),
    });
  } catch (error) {
    if (!isDiskError(error)) throw error;
    const where =
      'path' in address ? address.path : 'port' in address ? `${address.host}:${address.port}` : 'the socket';
    throw new CommandError(`Could not listen on '${where}': ${error.message}`, { cause: error });
  }
}

async function metricsFor(where: string, server: NbdServer, { insecure }: ServeOptions) {
  const { serveMetrics } = await import('../serving/metrics.ts');
  return await serveMetrics(where, server, { insecure: insecure === true });
}

/** Tells everybody who waits for it that clients may connect. */
async function announce(
  uris: readonly string[],
  given: ServeOptions,
  isCaptive: boolean,
  terminal: Terminal,
): Promise<void> {
  const lines = uris.map((uri) => `${uri}\n`).join('');
  if (!isCaptive) terminal.print(lines);
  if (given.readyFd !== undefined) announceAt(given.readyFd, lines);
  if (given.fork) await (await import('../serving/daemon.ts')).reportReady(lines);
}

async function runWords(
  words: readonly string[],
  variables: Readonly<Record<string, string>>,
  signals: StopSignals,
): Promise<number> {
  const { runCommand } = await import('../serving/child-command.ts');
  return await runCommand(words, variables, signals);
}

async function untilStopped(
  { first }: StopSignals,
  others: readonly (Promise<void> | undefined)[],
): Promise<number> {
  await Promise.race([first, ...others.filter((each) => each !== undefined)]);
  return 0;
}
