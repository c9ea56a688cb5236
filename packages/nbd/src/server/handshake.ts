/**
 * The server's side of the handshake: from the greeting to the choice of an export.
 *
 * It holds no disk and touches none: a client who does not get past it costs a receive block. What a client
 * breaks is answered with an error as long as the stream can be followed, and ends the connection where it
 * cannot.
 *
 * Spec: proto.md, "Handshake" and "Option types"
 */
import { isDiskError } from '@strata/block';
import {
  clientFlagsLength,
  decodeClientFlags,
  decodeOptionHeader,
  encodeExportNameReply,
  encodeGreeting,
  encodeOptionReply,
  type OptionHeader,
  optionHeaderLength,
} from '../protocol/handshake.ts';
import { HandshakeFlag, Option } from '../protocol/numbers.ts';
import type { BlockSizes } from '../protocol/options.ts';
import type { ReplyStyle } from '../protocol/reply.ts';
import type { TlsAcceptor } from '../tls/accept.ts';
import type { MetaContext } from './contexts.ts';
import { lenientSizes, type ServedExport, transmissionFlags } from './export.ts';
import { heldReplies, maxOptionLength, maxOptions, optionsPerListedExport } from './limits.ts';
import { answerOption, type Choice, flagOptions, type Negotiation, newNegotiation } from './options.ts';
import type { Receiver } from './receiver.ts';

/** What a client has agreed on with the server when the transmission begins. */
export interface Agreed {
  readonly served: ServedExport;
  readonly style: ReplyStyle;
  /** What the client must obey. */
  readonly sizes: BlockSizes;
  /** Selected ones, by the identifier they have on the wire. */
  readonly contexts: ReadonlyMap<number, MetaContext>;
}

/** What a handshake needs of the connection it runs on. */
export interface HandshakeHost {
  readonly exports: ReadonlyMap<string, ServedExport>;
  /** Several clients at a time are allowed. */
  readonly multiple: boolean;
  /** The server is being stopped. */
  readonly stopping: boolean;
  /** Undefined: there is no TLS. */
  readonly tls: TlsAcceptor | undefined;
  send(bytes: Buffer): void;
  /** Bytes of replies that the client has not taken yet. */
  readonly held: number;
  /** Receiving may go on. */
  unblocked(): void;
  /** Begins TLS; calls `secured` of the handshake when all is encrypted. */
  secure(): void;
  /** The client has chosen: what follows are requests. */
  enter(agreed: Agreed): void;
  /** Hears of failures that are bugs of ours. */
  report(error: unknown): void;
  /** Closes after what was sent has arrived. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

const ourFlags = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;

/** One handshake. `pump` is called whenever bytes have arrived. */
export class Handshake {
  readonly #host: HandshakeHost;
  readonly #receiver: Receiver;
  #negotiation: Negotiation = newNegotiation(false);
  #clientFlags: number | undefined;
  #options = 0;
  #over = false;
  #securing = false;
  #blocked = false;

  constructor(host: HandshakeHost, receiver: Receiver) {
    this.#host = host;
    this.#receiver = receiver;
    host.send(encodeGreeting(ourFlags));
  }

  /** True: nothing may be received until `unblocked`. */
  get blocked(): boolean {
    return this.#blocked || this.#over || this.#securing;
  }

  /** Takes all options that have arrived, unless the client leaves the answers lying. */
  pump(): void {
    this.#blocked = false;
    try {
      while (!this.#over && !this.#securing && this.#step()) {}
    } catch (error) {
      // After a wrong magic number nothing can be told apart any more. Anything else is a bug.
      if (!isDiskError(error, 'protocol')) this.#host.report(error);
      this.#quit();
    }
  }

  /** Something that blocked may be gone. */
  readonly retry = (): void => {
    if (!this.#blocked || this.#over || this.#securing) return;
    this.pump();
    if (!this.blocked) this.#host.unblocked();
  };

  /** All is encrypted from here on. What was agreed on in plain text may be somebody else's word. */
  secured(): void {
    if (this.#over) return;
    this.#securing = false;
    this.#negotiation = newNegotiation(true);
    this.#host.unblocked();
  }

  /** The connection is gone. */
  closed(): void {
    this.#over = true;
  }

  /** The client hung up, with or without goodbye. */
  ended(): void {
    this.#quit();
  }

  /** Takes one message. False: it is not complete yet. */
  #step(): boolean {
    return this.#clientFlags === undefined ? this.#takeClientFlags() : this.#takeOption();
  }

  #takeClientFlags(): boolean {
    const bytes = this.#take(clientFlagsLength);
    if (bytes === undefined) return false;
    const flags = decodeClientFlags(bytes);
    if ((flags & ~ourFlags) !== 0) this.#quit();
    this.#clientFlags = flags;
    return true;
  }

  #takeOption(): boolean {
    const receiver = this.#receiver;
    if (receiver.available < optionHeaderLength) return false;
    const at = receiver.at;
    const header = decodeOptionHeader(receiver.bytes.subarray(at, at + optionHeaderLength));
    if (header.length > maxOptionLength || !this.#mayGoOn(header)) {
      this.#quit();
      return true;
    }
    if (receiver.available < optionHeaderLength + header.length) return false;
    this.#blocked = this.#host.held >= heldReplies;
    if (this.#blocked) return false;
    receiver.advance(optionHeaderLength);
    const data = receiver.bytes.subarray(receiver.at, receiver.at + header.length);
    receiver.advance(header.length);
    this.#options++;
    this.#answer(header.option, data);
    return true;
  }

  /** Whether this client may send this option now, judged before its data is waited for. */
  #mayGoOn(header: OptionHeader): boolean {
    const fixed = ((this.#clientFlags ?? 0) & HandshakeFlag.fixedNewstyle) !== 0;
    const allowed = maxOptions + optionsPerListedExport * this.#negotiation.listed;
    return this.#options < allowed && (fixed || header.option === Option.exportName);
  }

  #answer(option: number, data: Uint8Array): void {
    if (option === Option.exportName) {
      this.#chooseByName(data);
      return;
    }
    const answer = answerOption(option, data, this.#negotiation, this.#host);
    if (answer.outcome === 'secure' && this.#receiver.available > 0) {
      // Sent before we had agreed to TLS, perhaps by somebody else, so that it would pass for encrypted.
      this.#quit();
      return;
    }
    const replies = answer.replies.map(({ type, data: told }) => encodeOptionReply(option, type, told));
    this.#host.send(Buffer.concat(replies));
    if (answer.outcome === 'abort') {
      this.#over = true;
      this.#host.end();
    } else if (answer.outcome === 'secure') {
      this.#securing = true;
      this.#host.secure();
    } else if (answer.outcome) {
      this.#enter(answer.outcome);
    }
  }

  /** EXPORT_NAME, which can be answered only by going on or by hanging up. */
  #chooseByName(data: Uint8Array): void {
    const served = this.#host.exports.get(Buffer.from(data).toString('utf8'));
    const isTooEarly = this.#host.tls?.required && !this.#negotiation.secure;
    const isTooLate = this.#negotiation.extended;
    if (served === undefined || this.#host.stopping || isTooEarly || isTooLate) {
      this.#quit();
      return;
    }
    const flags = transmissionFlags(served, flagOptions(served, this.#negotiation, this.#host));
    const zeroes = ((this.#clientFlags ?? 0) & HandshakeFlag.noZeroes) === 0;
    this.#host.send(encodeExportNameReply({ size: served.source.size, flags }, { zeroes }));
    this.#enter({ served, isObeyed: false });
  }

  #enter({ served, isObeyed }: Choice): void {
    this.#over = true;
    const { structured, extended, selection } = this.#negotiation;
    const style = extended ? 'extended' : structured ? 'structured' : 'simple';
    const sizes = isObeyed ? served.sizes : lenientSizes(served.sizes);
    // A selection that was made for another export is void.
    const contexts = selection?.served === served ? selection.contexts : new Map<number, MetaContext>();
    this.#host.enter({ served, style, sizes, contexts });
  }

  #quit(): void {
    this.#over = true;
    this.#host.destroy();
  }

  #take(length: number): Uint8Array | undefined {
    const receiver = this.#receiver;
    if (receiver.available < length) return undefined;
    const bytes = receiver.bytes.subarray(receiver.at, receiver.at + length);
    receiver.advance(length);
    return bytes;
  }
}
