/** A listening unix socket in the hands of a test. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { temporaryFolder } from '@strata/testkit';

/** Listens until it is disposed of, which cuts every client. */
export interface SocketServer extends AsyncDisposable {
  readonly path: string;
  /** The next client that connects. */
  next(): Promise<Socket>;
}

/** Calls `greet` for each client. What clients send is read and dropped unless `greet` listens to it. */
export async function socketServer(greet: (client: Socket) => void = () => undefined): Promise<SocketServer> {
  const folder = await temporaryFolder();
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    clients.add(client);
    client.on('error', () => undefined);
    client.on('close', () => clients.delete(client));
    client.resume();
    greet(client);
  });
  const path = folder.file('s');
  server.listen(path);
  await once(server, 'listening');
  return {
    path,
    next: async () => (await once(server, 'connection'))[0] as Socket,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const client of clients) client.destroy();
      await closed;
      await folder[Symbol.asyncDispose]();
    },
  };
}
