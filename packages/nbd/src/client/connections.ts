/**
 * The connections to one export, used in turn.
 *
 * The first is there before anything else; if the server lets clients have several, others join as they come up, from
 * when there is more to ask at a time than one thing: who asks one after the other gains nothing by them, and a server
 * logs every connection that leaves before it has agreed. A server that grants fewer is used with fewer. When one is
 * lost, all that follows fails with its reason: which writes it had taken can't be known.
 *
 * Spec: proto.md, "Values", NBD_FLAG_CAN_MULTI_CONN
 */
import type { DiskError } from '@strata/block';
import { TransmissionFlag } from '../protocol/numbers.ts';
import type { Transport } from './connect.ts';
import { type Negotiated, openExport } from './handshake.ts';
import { type ConnectOptions, perform } from './negotiation.ts';
import { Session } from './session.ts';
import type { NbdTarget } from './uri.ts';

/** What to connect to, and how. */
export interface ConnectionsOptions extends ConnectOptions {
  readonly contexts: readonly string[];
  /** For errors: the URI. */
  readonly path: string;
  /** At most; 1 is always had. */
  readonly most: number;
}

/** One connection or several. */
export class Connections {
  readonly #sessions: Session[];
  /** Makes the others; undefined once it was called, and where there are none to make. */
  #joinOthers: (() => Promise<unknown>) | undefined;
  #joining: Promise<unknown> = Promise.resolve();
  readonly #closing = new AbortController();
  #turn = 0;

  private constructor(first: Session, target: NbdTarget, options: ConnectionsOptions) {
    this.#sessions = [first];
    const isMulti = (first.negotiated.flags & TransmissionFlag.canMultiConn) !== 0;
    const others = isMulti ? options.most - 1 : 0;
    if (others === 0) return;
    this.#joinOthers = () => Promise.all(Array.from({ length: others }, () => this.#join(target, options)));
  }

  /** @throws {DiskError} as `perform` and `openExport` */
  static async open(target: NbdTarget, options: ConnectionsOptions): Promise<Connections> {
    return new Connections(await openSession(target, options), target, options);
  }

  /** What the first connection was negotiated to be; the others are alike. */
  get negotiated(): Negotiated {
    return (this.#sessions[0] as Session).negotiated;
  }

  /** The one whose turn it is; once one was lost it is always that one, which refuses everything. */
  next(): Session {
    if (this.#joinOthers !== undefined && !(this.#sessions[0] as Session).isIdle) {
      this.#joining = this.#joinOthers();
      this.#joinOthers = undefined;
    }
    this.#turn = (this.#turn + 1) % this.#sessions.length;
    const session = this.#sessions[this.#turn] as Session;
    return this.#sessions.find(({ lost }) => lost !== undefined) ?? session;
  }

  /** Why one of them ended; undefined while all are well. */
  get lost(): DiskError | undefined {
    return this.#sessions.find(({ lost }) => lost !== undefined)?.lost;
  }

  /** Takes leave on all of them. */
  async close(): Promise<void> {
    this.#joinOthers = undefined;
    this.#closing.abort();
    await this.#joining;
    await Promise.all(this.#sessions.map((session) => session.close()));
  }

  async #join(target: NbdTarget, options: ConnectionsOptions): Promise<void> {
    const session = await openSession(target, { ...options, signal: this.#closing.signal }).catch(
      () => undefined,
    );
    if (session === undefined) return;
    if (isAlike(session.negotiated, this.negotiated)) this.#sessions.push(session);
    else await session.close();
  }
}

function openSession(target: NbdTarget, options: ConnectionsOptions): Promise<Session> {
  const tls = options.tls && (options.tls.mode ?? 'require');
  const negotiation = openExport({ exportName: target.exportName, contexts: options.contexts, tls });
  const start = (negotiated: Negotiated, transport: Transport): Session =>
    new Session(transport, negotiated, options.path);
  return perform(target.address, negotiation, start, options);
}

/**
 * Whether two connections are to the same disk. Context identifiers may differ from connection to connection, but then
 * one table of them is not enough.
 */
export function isAlike(a: Negotiated, b: Negotiated): boolean {
  const facts = ({ size, flags, style, blockSizes, contexts }: Negotiated): string =>
    JSON.stringify([size, flags, style, blockSizes, contexts]);
  return facts(a) === facts(b);
}
