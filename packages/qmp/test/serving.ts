/** A server of ours on a temporary socket, and a socket that speaks QMP as a test wants it. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TemporaryFolder, temporaryFolder } from '@strata/testkit';
import type { QmpCommand } from '../src/command.ts';
import { listenQmp, type QmpServer } from '../src/server.ts';

/** Told to every client; what a test compares with the real daemon leaves it out. */
export const version = { qemu: { major: 7, minor: 2, micro: 0 }, package: 'test' };

/** A server that a test started. */
export interface Serving extends AsyncDisposable {
  readonly server: QmpServer;
  readonly path: string;
  readonly folder: TemporaryFolder;
}

/** Serves until it is disposed of; a bug that the server reports fails the test then. */
export async function serving(commands: readonly QmpCommand[] = []): Promise<Serving> {
  const folder = await temporaryFolder();
  const path = folder.file('qmp');
  const bugs: unknown[] = [];
  const server = await listenQmp({ path, version, commands, onError: (error) => bugs.push(error) });
  return {
    server,
    path,
    folder,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
      if (bugs.length > 0) throw bugs[0];
    },
  };
}

/** A message as it came. */
export type Line = Readonly<Record<string, unknown>>;

/** A client that sends what it likes. */
export interface RawQmp extends AsyncDisposable {
  send(bytes: string | Buffer): void;
  /** The next line that comes; undefined when the server has hung up. */
  line(): Promise<Line | undefined>;
  /** Sends no more, and still reads. */
  end(): void;
}

/** Connects; the greeting is the first line. */
export async function rawQmp(path: string): Promise<RawQmp> {
  const socket = connect(path).on('error', () => undefined);
  await once(socket, 'connect');
  const lines = (async function* () {
    let rest = '';
    for await (const text of socket.iterator({ destroyOnReturn: false })) {
      const parts = `${rest}${text}`.split('\r\n');
      rest = parts.pop() ?? '';
      yield* parts;
    }
  })();
  socket.setEncoding('utf8');
  return {
    send: (bytes) => socket.write(bytes),
    line: async () => {
      const next = await lines.next().catch(() => undefined);
      return next?.done === false ? (JSON.parse(next.value) as Line) : undefined;
    },
    end: () => socket.end(),
    [Symbol.asyncDispose]: async () => {
      socket.destroy();
    },
  };
}
