/**
 * Figures of a server for Prometheus, over HTTP, with those of the process.
 *
 * Requests are counted as plain numbers where they are served; prom-client formats them when somebody asks, so a request
 * costs no more with this on.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExportFigures, NbdServer } from '@strata/nbd';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { CommandError, UsageError } from '../report.ts';
import { refuseExposure } from './address.ts';

/** An HTTP server that answers at `/metrics`. */
export interface MetricsServer extends AsyncDisposable {
  /** `http://HOST:PORT/metrics`. */
  readonly url: string;
}

/** @throws {UsageError} for what is no `[HOST:]PORT` @throws {CommandError} if nobody may listen there */
export async function serveMetrics(
  where: string,
  server: NbdServer,
  { insecure }: { readonly insecure: boolean },
): Promise<MetricsServer> {
  const { host, port } = addressIn(where);
  if (!insecure) refuseExposure(host, 'Metrics are told without TLS');
  const registry = registryOf(server);
  const http = createServer((request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  http.headersTimeout = 10_000;
  http.maxConnections = 16;
  await new Promise<void>((resolve, reject) => {
    http.once('error', (error) =>
      reject(new CommandError(`Could not listen on '${where}': ${error.message}`, { cause: error })),
    );
    http.listen(port, host, resolve);
  });
  const bound = http.address() as AddressInfo;
  const shown = bound.address.includes(':') ? `[${bound.address}]` : bound.address;
  return {
    url: `http://${shown}:${bound.port}/metrics`,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };
}

function addressIn(where: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits = ''] = /^(?:(?:\[([^\]]*)\]|([^:]*)):)?(\d{1,5})$/.exec(where) ?? [];
  const port = Number(digits);
  if (digits === '' || port > 65_535)
    throw new UsageError(`Invalid address '${where}': expected [HOST:]PORT`);
  return { host: bracketed || plain || '127.0.0.1', port };
}

function registryOf(server: NbdServer): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const common = { registers: [registry] };
  new Gauge({
    ...common,
    name: 'strata_nbd_connections',
    help: 'Clients that are being served.',
    collect() {
      this.set(server.connections);
    },
  });
  counter(registry, 'strata_nbd_clients_total', 'Clients that were served so far.', [], () => [
    [{}, server.clients],
  ]);
  const perExport = (count: (figures: ExportFigures) => number): Samples =>
    server.figures().map((figures) => [{ export: figures.exportName }, count(figures)]);
  counter(
    registry,
    'strata_nbd_requests_total',
    'Requests that were carried out.',
    ['export', 'command'],
    () =>
      server
        .figures()
        .flatMap(({ exportName, counters }) =>
          Object.entries(counters.requests()).map(
            ([command, count]) => [{ export: exportName, command }, count] as const,
          ),
        ),
  );
  counter(registry, 'strata_nbd_failed_requests_total', 'Requests answered with an error.', ['export'], () =>
    perExport(({ counters }) => counters.failed),
  );
  counter(registry, 'strata_nbd_read_bytes_total', 'Bytes that clients have read.', ['export'], () =>
    perExport(({ counters }) => counters.read),
  );
  counter(registry, 'strata_nbd_written_bytes_total', 'Bytes that clients have written.', ['export'], () =>
    perExport(({ counters }) => counters.written),
  );
  return registry;
}

type Samples = readonly (readonly [Readonly<Record<string, string>>, number])[];

/** A counter whose values are counted elsewhere. */
function counter(
  registry: Registry,
  name: string,
  help: string,
  labelNames: string[],
  samples: () => Samples,
): void {
  new Counter({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      this.reset();
      for (const [labels, value] of samples()) this.inc(labels, value);
    },
  });
}
