/**
 * The parts of every negotiation: the greeting, and one option with its replies.
 *
 * All lengths come from the server. A reply is refused by its header, before a byte of it is read or a buffer
 * for it is made.
 *
 * Spec: proto.md, "Newstyle negotiation", "Fixed newstyle negotiation", "Option reply types"
 */
import { DiskError, type ErrorCode } from '@strata/block';
import {
  decodeGreeting,
  decodeOldstyleGreeting,
  decodeOptionReplyHeader,
  type ExportSummary,
  encodeClientFlags,
  encodeOption,
  greetingLength,
  isErrorReply,
  oldstyleGreetingLength,
  optionReplyHeaderLength,
} from '../protocol/handshake.ts';
import { HandshakeFlag, Option, OptionReply } from '../protocol/numbers.ts';
import { printable } from '../protocol/text.ts';
import type { Negotiation } from './negotiation.ts';

/** Longer than any reply of the specification, whose strings end at 4096 bytes. */
const longestReply = 64 * 1024;

/** What the two sides agreed on by their flags. */
export interface Style {
  /** Options other than EXPORT_NAME may be sent. */
  readonly fixed: boolean;
  /** The answer to EXPORT_NAME comes without 124 reserved bytes. */
  readonly noZeroes: boolean;
  /** What an oldstyle server tells of its one export; it takes no options. */
  readonly oldstyle?: ExportSummary;
}

/** @throws {DiskError} protocol if this is no NBD server; limit for the export of an oldstyle one above 2^53 - 1 bytes */
export function* greet(): Negotiation<Style> {
  const first = yield { take: greetingLength };
  const greeting = decodeGreeting(first);
  if (greeting.style === 'oldstyle') {
    const rest = yield { take: oldstyleGreetingLength - greetingLength };
    const oldstyle = decodeOldstyleGreeting(Buffer.concat([first, rest]));
    return { fixed: false, noZeroes: false, oldstyle };
  }
  const flags = greeting.flags & (HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes);
  yield { send: encodeClientFlags(flags), take: 0 };
  return {
    fixed: (flags & HandshakeFlag.fixedNewstyle) !== 0,
    noZeroes: (flags & HandshakeFlag.noZeroes) !== 0,
  };
}

/** Whether TLS must be, or may be. */
export type TlsMode = 'require' | 'allow';

/**
 * Asks for TLS before anything else. All that follows is encrypted, unless TLS is only allowed and the server has none.
 *
 * @throws {DiskError} denied, not-supported for a server without the TLS that must be
 */
export function* startTls(mode: TlsMode | undefined, fixed: boolean): Negotiation<void> {
  if (mode === undefined) return;
  if (!fixed) {
    if (mode === 'allow') return;
    throw new DiskError('not-supported', 'TLS is required, and the server is too old to have it');
  }
  const refusal = yield* ask(Option.startTls, new Uint8Array(), 0, (type) => {
    throw unexpectedReply(Option.startTls, type);
  });
  if (refusal === undefined) yield { secure: true };
  else if (mode === 'require' || isFinal(refusal)) return yield* giveUp(refusal.error);
}

/** An option that the server refused. */
export interface Refusal {
  /** Of `OptionReply`, or an unknown error. */
  readonly type: number;
  /** Says so in words, with the server's own. */
  readonly error: DiskError;
}

/**
 * Sends one option and gives each reply before the final one to `reply`, which throws what it cannot take.
 * Returns undefined if the server agreed.
 *
 * @param most how many replies may come before the final one
 * @throws {DiskError} protocol; limit for more than `most` replies
 */
export function* ask(
  option: number,
  data: Uint8Array,
  most: number,
  reply: (type: number, data: Buffer) => void,
): Negotiation<Refusal | undefined> {
  const name = optionName(option);
  let send: Uint8Array = encodeOption(option, data);
  for (let count = 0; ; count++) {
    const header = decodeOptionReplyHeader(yield { send, take: optionReplyHeaderLength });
    send = new Uint8Array();
    if (header.option !== option) {
      throw new DiskError('protocol', `a reply to option ${header.option} came where ${name} was asked`);
    }
    if (header.length > longestReply) {
      throw new DiskError('protocol', `a reply to ${name} is ${header.length} bytes long`);
    }
    const payload = yield { take: header.length };
    if (isErrorReply(header.type)) return refusal(option, header.type, payload);
    if (header.type === OptionReply.ack) {
      if (header.length === 0) return undefined;
      throw new DiskError('protocol', `the ACK of ${name} carries ${header.length} bytes`);
    }
    reply(header.type, payload);
    if (count === most) throw new DiskError('limit', `more than ${most} replies came to ${name}`);
  }
}

/** Takes leave of a server that must not be left without a word, and throws `error`. */
export function* giveUp(error: DiskError): Negotiation<never> {
  yield { send: encodeOption(Option.abort), take: 0 };
  throw error;
}

/** For a reply of a type that is none to `option`. */
export function unexpectedReply(option: number, type: number): DiskError {
  return new DiskError('protocol', `a reply of type ${type} is none to ${optionName(option)}`);
}

/** True if there is no use in asking for anything else. */
export function isFinal({ type }: Refusal): boolean {
  return type === OptionReply.errTlsRequired || type === OptionReply.errShutdown;
}

function refusal(option: number, type: number, payload: Buffer): Refusal {
  const [code, sentence] = refusals.get(type) ?? [
    'io',
    (name: string) => `Unknown error 0x${type.toString(16)} for ${name}`,
  ];
  const text = printable(payload.toString('utf8'), 256);
  const report = text === '' ? '' : ` (server reported: ${text})`;
  return {
    type,
    error: new DiskError(code, `${sentence(optionName(option))}${report}`, { op: 'negotiate' }),
  };
}

/** The words are QEMU's where it has some. */
const refusals: ReadonlyMap<number, readonly [ErrorCode, (option: string) => string]> = new Map([
  [OptionReply.errUnsupported, ['not-supported', (option) => `Server does not know ${option}`]],
  [OptionReply.errPolicy, ['denied', (option) => `Denied by server for ${option}`]],
  [OptionReply.errInvalid, ['invalid', (option) => `Invalid parameters for ${option}`]],
  [OptionReply.errPlatform, ['not-supported', (option) => `Server lacks support for ${option}`]],
  [OptionReply.errTlsRequired, ['denied', (option) => `TLS negotiation required before ${option}`]],
  [OptionReply.errUnknown, ['not-found', () => 'Requested export not available']],
  [OptionReply.errShutdown, ['closed', (option) => `Server shutting down before ${option}`]],
  [
    OptionReply.errBlockSizeRequired,
    ['not-supported', (option) => `Server requires block sizes to be asked for in ${option}`],
  ],
  [
    OptionReply.errExtendedHeadersRequired,
    ['not-supported', (option) => `Server requires extended headers for ${option}`],
  ],
  [OptionReply.errTooBig, ['limit', (option) => `Too big for the server: ${option}`]],
] as const);

function optionName(option: number): string {
  const found = Object.entries(Option).find(([, number]) => number === option);
  return `option ${option} (${found?.[0] ?? 'unknown'})`;
}
