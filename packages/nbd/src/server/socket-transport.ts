/**
 * The transport over a socket that a `net.Server` accepted, receiving into buffers of ours.
 *
 * Node offers `onread` only to sockets that it makes itself for a client, so the accepted socket is made
 * again over its handle. The handle is not a documented property: this is the only file that touches it. Where
 * it is missing or does not do what is expected, chunks are received as 'data' events and copied, which is
 * slower and otherwise the same.
 *
 * TLS goes on top of whichever socket there is (`wire/in-place.ts` does for it what `onread` does here).
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { receiveInPlace } from '../wire/in-place.ts';
import { SerialWriter } from '../wire/serial-writer.ts';
import { Spill } from './spill.ts';
import type { Transport, TransportListener } from './transport.ts';

/** Of the accepted socket, as far as it is needed. */
interface WithHandle {
  _handle: { useUserBuffer?: unknown; readonly fd?: number } | null | undefined;
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
  const plain = inPlace || accepted;
  const spill = new Spill(listener);
  plain.on('error', () => undefined);
  plain.on('end', () => listener.ended());
  plain.on('close', () => listener.closed());
  if (!inPlace) spill.attach(plain);
  plain.resume();
  let socket = plain;
  let writer: SerialWriter | undefined;
  let isSecuring = false;
  return {
    get descriptor() {
      const { _handle: handle } = plain as unknown as WithHandle;
      const fd = socket === plain && !isSecuring && inPlace && plain.writable ? handle?.fd : undefined;
      return fd !== undefined && fd >= 0 ? fd : undefined;
    },
    get isDrained() {
      return socket.writableLength === 0;
    },
    write: (bytes, sent) => {
      if (writer) writer.write(bytes, sent);
      else if (socket.writable) socket.write(bytes, sent);
      else process.nextTick(sent);
    },
    secure: (acceptor, secured) => {
      if (!inPlace && !spill.detach(plain)) {
        plain.destroy();
        return;
      }
      isSecuring = true;
      acceptor.accept(plain, (secure) => {
        isSecuring = false;
        socket = secure;
        writer = new SerialWriter(secure);
        receiveSecure(secure, listener, spill, options);
        secured();
      });
    },
    pause: () => {
      if (isSecuring) return;
      spill.pause();
      socket.pause();
    },
    resume: () => {
      socket.resume();
      spill.resume();
    },
    end: () => {
      if (writer) writer.end(() => socket.destroy());
      else socket.end(() => socket.destroy());
    },
    destroy: () => {
      spill.pause();
      socket.destroy();
    },
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

/** Receives what was decrypted. A record that was taken before a pause may come out of it afterwards, and is kept. */
function receiveSecure(
  secure: TLSSocket,
  listener: TransportListener,
  spill: Spill,
  options: SocketTransportOptions,
): void {
  spill.pause();
  secure.on('end', () => listener.ended());
  const inPlace = options.inPlace !== false && receiveInPlace(secure, spill.onRead);
  if (!inPlace) spill.attach(secure);
}
