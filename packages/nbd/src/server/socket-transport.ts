/**
 * The transport over a socket that a `net.Server` accepted, receiving into buffers of ours.
 *
 * Node offers `onread` only to sockets that it makes itself for a client, so the accepted socket is made
 * again over its handle. The handle is not a documented property: this is the only file that touches it. Where
 * it is missing or does not do what is expected, chunks are received as 'data' events and copied, which is
 * slower and otherwise the same.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import type { Transport, TransportListener } from './transport.ts';

/** Of the accepted socket, as far as it is needed. */
interface WithHandle {
  _handle: { useUserBuffer?: unknown } | null | undefined;
}

/** How a transport is made. */
export interface SocketTransportOptions {
  /** False: as if the handle were not there. For tests of that way. */
  readonly inPlace?: boolean;
}

/**
 * Takes over a socket that was accepted with `pauseOnConnect`, and starts receiving. The listener must be
 * ready for `space` before this returns.
 */
export function socketTransport(
  accepted: Socket,
  listener: TransportListener,
  options: SocketTransportOptions = {},
): Transport {
  const inPlace = options.inPlace !== false && rebuilt(accepted, listener);
  const socket = inPlace || accepted;
  socket.on('error', () => undefined);
  socket.on('end', () => listener.ended());
  socket.on('close', () => listener.closed());
  if (!inPlace) copyChunks(socket, listener);
  socket.resume();
  return {
    write: (bytes, sent) => {
      if (socket.writable) socket.write(bytes, sent);
      else process.nextTick(sent);
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    end: () => socket.end(() => socket.destroy()),
    destroy: () => socket.destroy(),
  };
}

/** The same connection as a socket that receives into the listener's buffers. */
function rebuilt(accepted: Socket, listener: TransportListener): Socket | undefined {
  const owner = accepted as unknown as WithHandle;
  const handle = owner._handle;
  if (!handle || typeof handle.useUserBuffer !== 'function') return undefined;
  owner._handle = null;
  accepted.destroy();
  const onread = {
    buffer: () => listener.space(),
    callback: (length: number) => {
      listener.received(length);
      return true;
    },
  };
  return new Socket({ handle, onread, allowHalfOpen: true } as unknown as SocketConstructorOpts);
}

function copyChunks(socket: Socket, listener: TransportListener): void {
  let rest: Buffer | undefined;
  const deliver = (): void => {
    while (rest !== undefined && !socket.isPaused() && !socket.destroyed) {
      const space = listener.space();
      const length = rest.copy(space);
      rest = length < rest.length ? rest.subarray(length) : undefined;
      listener.received(length);
    }
  };
  socket.on('data', (chunk: Buffer) => {
    rest = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
    deliver();
  });
  socket.on('resume', deliver);
}
