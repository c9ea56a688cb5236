/** A client that knows nothing of the protocol, on the far side of TLS. */
import { once } from 'node:events';
import { type ConnectionOptions, connect } from 'node:tls';
import { type RawClient, rawClient, rawClientOn } from '../server/raw-client.ts';
import { greeting, option, reply, type Serving } from '../server/serving.ts';

/** A client in the middle of the handshake, whose server has just agreed to TLS. */
export async function agreed(serve: Serving): Promise<RawClient> {
  const client = await rawClient(serve.path);
  await client.expect(greeting);
  client.send(`00000003 ${option(5, '')}`);
  await client.expect(reply(5, 1, ''));
  return client;
}

/** The same client with TLS under way. Rejects if the handshake fails. */
export async function secured(plain: RawClient, options: ConnectionOptions): Promise<RawClient> {
  plain.socket.removeAllListeners('data');
  const socket = connect({ ...options, socket: plain.socket });
  await once(socket, 'secureConnect');
  return rawClientOn(socket);
}
