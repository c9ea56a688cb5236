/**
 * Listening sockets: `listen` as a promise, and a unix socket that is nobody else's from its first instant, replaces
 * nothing but a dead socket, and removes nothing but itself.
 *
 * Node creates sockets that others may connect to, and a umask would hold for the whole process. So the socket is made
 * in a fresh folder that only we can enter, gets its mode there, and is then linked to its path, which fails if
 * something stands there. A module of its own for those who serve: who only opens images does not load the network.
 */
import { chmod, link, lstat, mkdtemp, rename, rm, unlink } from 'node:fs/promises';
import { connect, type ListenOptions, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { DiskError } from '../errors.ts';

/** Of `struct sockaddr_un`, without the NUL. Longer paths would be cut off silently. */
const longestPath = process.platform === 'linux' ? 107 : 103;

/** How often a dead socket is cleared away before giving up. */
const attempts = 3;

/**
 * Listens on `path`. Returns what removes it, unless something else has taken its place by then.
 * @throws {DiskError} busy if a server listens there; exists if that is no socket; limit for a long path;
 *   denied, not-found, io
 */
export async function listenOnPath(server: Server, path: string): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(dirname(path), '.new')).catch((cause: unknown) => {
    throw failure(cause, path, 'mkdtemp');
  });
  try {
    const inner = join(folder, 's');
    if (Buffer.byteLength(inner) > longestPath || Buffer.byteLength(path) > longestPath) {
      throw new DiskError('limit', `the path of a socket can be at most ${longestPath} bytes`, { path });
    }
    await listenOn(server, { path: inner });
    await chmod(inner, 0o600);
    const { dev, ino } = await lstat(inner);
    await publish(inner, path, folder);
    return async () => {
      const found = await lstat(path).catch(() => undefined);
      if (found?.dev === dev && found.ino === ino) await unlink(path).catch(() => undefined);
    };
  } catch (error) {
    server.close();
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function publish(inner: string, path: string, folder: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await link(inner, path);
      return;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' || attempt === attempts) throw failure(error, path, 'link');
    }
    await clearDeadSocket(path, join(folder, 'dead'));
  }
}

/** Moves what stands at `path` to `aside` if it is a socket that nobody listens on. */
async function clearDeadSocket(path: string, aside: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) throw new DiskError('exists', 'what stands there is not a socket', { path });
  if (await answers(path)) throw new DiskError('busy', 'another server listens there', { path });
  await rename(path, aside).catch(() => undefined);
  const moved = await lstat(aside).catch(() => undefined);
  // Another server was quicker and the socket is its own, not the dead one: it goes back.
  if (moved !== undefined && moved.ino !== found.ino) await link(aside, path).catch(() => undefined);
}

/** Whether somebody listens on a socket. @throws {DiskError} if that cannot be told */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', (error) => {
      if (codeOf(error) === 'ECONNREFUSED' || codeOf(error) === 'ENOENT') resolve(false);
      else reject(failure(error, path, 'connect'));
    });
  });
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

function failure(cause: unknown, path: string, op: string): DiskError {
  const code = codeOf(cause);
  const options = { path, op, cause };
  if (code === 'ENOENT')
    return new DiskError('not-found', 'the folder of the socket does not exist', options);
  if (code === 'EEXIST') return new DiskError('exists', 'something else is being created there', options);
  if (code === 'EACCES' || code === 'EPERM') return new DiskError('denied', 'permission denied', options);
  return new DiskError('io', `cannot create the socket: ${code ?? String(cause)}`, options);
}

/** Resolves when the server listens. @throws {DiskError} busy, denied, io */
export function listenOn(server: Server, options: ListenOptions | { readonly fd: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => reject(listenFailure(error));
    server.once('error', failed);
    server.listen(options, () => {
      server.off('error', failed);
      resolve();
    });
  });
}

function listenFailure(cause: NodeJS.ErrnoException): DiskError {
  const options = { op: 'listen', cause };
  switch (cause.code) {
    case 'EADDRINUSE':
      return new DiskError('busy', 'the address is in use', options);
    case 'EACCES':
    case 'EPERM':
      return new DiskError('denied', 'permission denied', options);
    default:
      return new DiskError('io', `cannot listen: ${cause.message}`, options);
  }
}
