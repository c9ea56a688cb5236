/** `net.Server.listen` as a promise, with our errors. */
import type { ListenOptions, Server } from 'node:net';
import { DiskError } from '@strata/block';

/** Resolves when the server listens. @throws {DiskError} busy, denied, io */
export function listenOn(server: Server, options: ListenOptions | { readonly fd: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => reject(failure(error));
    server.once('error', failed);
    server.listen(options, () => {
      server.off('error', failed);
      resolve();
    });
  });
}

function failure(cause: NodeJS.ErrnoException): DiskError {
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
