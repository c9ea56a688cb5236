/**
 * Lets a socket that exists already receive into buffers of ours, as `onread` does for a new one.
 *
 * Node offers `onread` to none of the sockets that speak TLS over another one. What it would set is set here: the
 * properties have symbols for names, which are taken from a socket that was made with `onread`. This is the only file
 * that knows of them. Where they are missing or the handle does not take a buffer, nothing is changed, and the
 * caller receives 'data' events, which cost a copy and are otherwise the same.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';

/** As in `net.SocketConstructorOpts`. */
export interface OnRead {
  /** Where the next bytes are to be put. */
  buffer(): Uint8Array;
  /** So many bytes have been put at the start of the last buffer. */
  callback(length: number): void;
}

interface Internals {
  readonly buffer: symbol;
  readonly generator: symbol;
  readonly callback: symbol;
}

const internals = ((): Internals | undefined => {
  const onread = { buffer: Buffer.alloc(1), callback: () => true };
  const probe = new Socket({ onread } as SocketConstructorOpts);
  const symbols = new Map(Object.getOwnPropertySymbols(probe).map((symbol) => [symbol.description, symbol]));
  const buffer = symbols.get('kBuffer');
  const generator = symbols.get('kBufferGen');
  const callback = symbols.get('kBufferCb');
  return buffer && generator && callback ? { buffer, generator, callback } : undefined;
})();

interface WithHandle {
  _handle: { useUserBuffer?: (buffer: Uint8Array) => void } | null | undefined;
}

/** False: this cannot be done, and the socket is as it was. It must not be reading yet. */
export function receiveInPlace(socket: Socket, onRead: OnRead): boolean {
  const { _handle: handle } = socket as unknown as WithHandle;
  if (internals === undefined || typeof handle?.useUserBuffer !== 'function') return false;
  const first = onRead.buffer();
  const callback = (length: number): boolean => {
    onRead.callback(length);
    return true;
  };
  Object.assign(socket, {
    [internals.buffer]: first,
    [internals.generator]: () => onRead.buffer(),
    [internals.callback]: callback,
  });
  handle.useUserBuffer(first);
  return true;
}
