/** A proxy between a client and a server on unix sockets that cuts connections where a test wants it. */
import { connect, createServer, type Socket } from 'node:net';

/** When a connection is cut: after so many bytes in one direction. */
export interface Cut {
  /** `up`: from the client to the server. */
  readonly direction: 'up' | 'down';
  readonly after: number;
}

/** A running proxy. */
export interface CuttingProxy extends AsyncDisposable {
  /** Connections that were made so far. */
  readonly connections: number;
  /** Bytes that went through, of all connections. */
  readonly bytes: { readonly up: number; readonly down: number };
  /** Cuts every connection that there is. */
  cutAll(): void;
  /** True: new connections are closed at once. */
  refusing: boolean;
}

/**
 * Listens on `path` and passes everything on to `server`.
 * @param cutOf says where the connection with this number, from 0 on, is cut; undefined: nowhere
 */
export async function cuttingProxy(
  path: string,
  server: string,
  cutOf: (connection: number) => Cut | undefined = () => undefined,
): Promise<CuttingProxy> {
  const pairs = new Set<() => void>();
  const bytes = { up: 0, down: 0 };
  let connections = 0;
  const proxy = { refusing: false };
  const listener = createServer((client) => {
    client.on('error', () => undefined);
    if (proxy.refusing) {
      client.destroy();
      return;
    }
    const cut = cutOf(connections++);
    const upstream = connect(server);
    const end = (): void => {
      pairs.delete(end);
      client.destroy();
      upstream.destroy();
    };
    pairs.add(end);
    pass(client, upstream, 'up', cut, end);
    pass(upstream, client, 'down', cut, end);
  });

  function pass(
    from: Socket,
    to: Socket,
    direction: Cut['direction'],
    cut: Cut | undefined,
    end: () => void,
  ): void {
    let left = cut?.direction === direction ? cut.after : Number.POSITIVE_INFINITY;
    from.on('error', end);
    from.on('close', end);
    from.on('data', (chunk: Buffer) => {
      const passed = chunk.length <= left ? chunk : chunk.subarray(0, left);
      left -= passed.length;
      bytes[direction] += passed.length;
      const isLast = left === 0;
      from.pause();
      to.write(passed, () => {
        if (isLast) end();
        else from.resume();
      });
    });
  }

  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(path, resolve);
  });
  return {
    get connections() {
      return connections;
    },
    bytes,
    cutAll: () => {
      for (const end of [...pairs]) end();
    },
    get refusing() {
      return proxy.refusing;
    },
    set refusing(refusing: boolean) {
      proxy.refusing = refusing;
    },
    [Symbol.asyncDispose]: async () => {
      for (const end of [...pairs]) end();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}
