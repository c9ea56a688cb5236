/** What a server tells of its clients as they come and go. */
import type { Counters } from './counters.ts';

/** A client, as far as it is known. */
export interface ClientReport {
  /** Counts up from 1 in a server. */
  readonly id: number;
  /** `host:port`; undefined on a unix socket. */
  readonly peer: string | undefined;
  /** The export that it has chosen, with what it asked of it so far. */
  readonly session: { readonly exportName: string; readonly counters: Counters } | undefined;
  /** Why the server ended it; undefined if it left, or broke the protocol. */
  readonly cutOff: 'handshake timeout' | 'stalled' | undefined;
}

/** Who wants to know. Nothing here may throw. */
export interface ServerObserver {
  /** A client begins its handshake. */
  connected?(client: ClientReport): void;
  /** It has chosen an export. */
  entered?(client: ClientReport): void;
  /** It is gone, and nothing of it is under way any more. */
  left?(client: ClientReport): void;
}

/** What has been asked of one export since the server began. */
export interface ExportFigures {
  readonly exportName: string;
  readonly counters: Counters;
}
