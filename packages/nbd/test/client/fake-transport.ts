/** A connection without a socket: what the session sends is kept, what the test feeds is received. */
import { DiskError } from '@strata/block';
import type { ByteSink, Transport } from '../../src/client/connect.ts';
import type { Negotiated } from '../../src/client/handshake.ts';
import { Session } from '../../src/client/session.ts';
import { be, hex } from './script.ts';

/** A transport in the hands of a test. */
export class FakeTransport implements Transport {
  sink: ByteSink = { target: () => Buffer.alloc(1), received: () => undefined, ended: () => undefined };
  /** One entry for each call of `send`. */
  readonly batches: Buffer[] = [];
  /** Undefined while the connection is there. */
  destroyed: DiskError | undefined;
  hasEnded = false;
  /** False: `sent` is called by `release`. */
  sendsAtOnce = true;
  readonly #held: (() => void)[] = [];

  send(chunks: readonly Uint8Array[], sent?: () => void): void {
    this.batches.push(Buffer.concat(chunks));
    if (sent === undefined) return;
    if (this.sendsAtOnce) sent();
    else this.#held.push(sent);
  }

  /** The socket has taken everything. */
  release(): void {
    for (const sent of this.#held.splice(0)) sent();
  }

  secure(): void {
    throw new Error('a session does not begin TLS');
  }

  async end(): Promise<void> {
    this.hasEnded = true;
  }

  destroy(reason: DiskError): void {
    this.destroyed ??= reason;
    this.sink.ended(reason);
  }

  /** All bytes sent so far. */
  get sent(): Buffer {
    return Buffer.concat(this.batches);
  }

  /** Receives `bytes`, no more than `most` at a time. */
  feed(bytes: Uint8Array, most = Number.POSITIVE_INFINITY): void {
    let rest = bytes;
    while (rest.length > 0) {
      const target = this.sink.target();
      if (target.length === 0) throw new Error('the session offers no room');
      const piece = rest.subarray(0, Math.min(most, target.length));
      target.set(piece);
      this.sink.received(piece.length);
      rest = rest.subarray(piece.length);
    }
  }

  /** The peer closes its end. */
  hangUp(): void {
    this.sink.ended(new DiskError('closed', 'the server closed the connection'));
  }
}

/** What an ordinary server grants: structured replies and contexts 3 and 9. */
export const usual: Negotiated = {
  size: 2 ** 40,
  flags: 0x0ded,
  style: 'structured',
  blockSizes: undefined,
  name: undefined,
  description: undefined,
  contexts: [
    { id: 3, name: 'base:allocation' },
    { id: 9, name: 'qemu:allocation-depth' },
  ],
};

/** A session on a fake transport. */
export function fakeSession(negotiated: Partial<Negotiated> = {}): {
  transport: FakeTransport;
  session: Session;
} {
  const transport = new FakeTransport();
  return { transport, session: new Session(transport, { ...usual, ...negotiated }) };
}

/** Runs what was scheduled for the end of this turn. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The cookies of the requests without payload in `sent`, as digits. */
export function cookies(sent: Buffer): readonly string[] {
  return Array.from({ length: Math.floor(sent.length / 28) }, (_, index) =>
    sent.subarray(index * 28 + 8, index * 28 + 16).toString('hex'),
  );
}

/** A structured chunk; flag 1 is DONE. */
export const chunk = (cookie: string, flags: number, type: number, payload = ''): Buffer =>
  hex(`668e33ef ${be(flags, 2)} ${be(type, 2)} ${cookie} ${be(hex(payload).length, 4)} ${payload}`);

/** A simple reply. */
export const simple = (cookie: string, error = 0, data = ''): Buffer =>
  hex(`67446698 ${be(error, 4)} ${cookie} ${data}`);
