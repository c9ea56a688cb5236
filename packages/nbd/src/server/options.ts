/**
 * The answers to the options of the handshake, one function an option.
 *
 * An option whose data is malformed is answered ERR_INVALID, one that is not known ERR_UNSUP, and the
 * handshake goes on. Error texts are QEMU's where it has one.
 *
 * Spec: proto.md, "Option types" and "Option reply types"
 */
import { isDiskError } from '@strata/block';
import { InfoType, Option, OptionReply } from '../protocol/numbers.ts';
import {
  decodeGoRequest,
  decodeMetaContextRequest,
  encodeInfo,
  encodeMetaContextReply,
  encodeServerReply,
  type Info,
} from '../protocol/options.ts';
import { printable } from '../protocol/text.ts';
import type { TlsAcceptor } from '../tls/accept.ts';
import { type MetaContext, matchesQuery } from './contexts.ts';
import { type FlagOptions, lenientSizes, type ServedExport, transmissionFlags } from './export.ts';

/** What a client has agreed on so far. */
export interface Negotiation {
  structured: boolean;
  extended: boolean;
  /** Made by the last SET_META_CONTEXT, if that succeeded. */
  selection:
    | { readonly served: ServedExport; readonly contexts: ReadonlyMap<number, MetaContext> }
    | undefined;
  /** Exports that LIST has named. */
  listed: number;
  /** All that is said goes through TLS. */
  readonly secure: boolean;
}

/** What is agreed on at the start, and again when TLS has begun: nothing that was said before it counts. */
export function newNegotiation(secure: boolean): Negotiation {
  return { structured: false, extended: false, selection: undefined, listed: 0, secure };
}

/** What the answers depend on. */
export interface OptionHost {
  readonly exports: ReadonlyMap<string, ServedExport>;
  readonly multiple: boolean;
  readonly stopping: boolean;
  readonly tls: TlsAcceptor | undefined;
}

/** One reply to an option. */
interface Reply {
  /** Of `OptionReply`. */
  readonly type: number;
  readonly data?: Uint8Array;
}

/** The export that a client chose. */
export interface Choice {
  readonly served: ServedExport;
  /** The client asked for the block sizes, and so promises to obey them. */
  readonly isObeyed: boolean;
}

/** All replies to an option, and what comes after them if that is not another option. */
export interface OptionAnswer {
  readonly replies: readonly Reply[];
  /** The export that was chosen, the client's goodbye, or TLS. */
  readonly outcome?: Choice | 'abort' | 'secure';
}

type Handler = (data: Uint8Array, negotiation: Negotiation, host: OptionHost) => OptionAnswer;

interface Row {
  readonly name: string;
  readonly answer: Handler;
}

const ack: Reply = { type: OptionReply.ack };
const refuse = (type: number, text: string): OptionAnswer => ({
  replies: [{ type, data: Buffer.from(text) }],
});
const invalid = (text: string): OptionAnswer => refuse(OptionReply.errInvalid, text);
const unknownExport = (name: string): OptionAnswer =>
  refuse(OptionReply.errUnknown, `export '${printable(name)}' not present`);

/** A handler of an option that has no data. */
function bare(name: string, answer: Handler): Row {
  const guarded: Handler = (data, negotiation, host) =>
    data.length > 0 ? invalid(`option '${name}' has unexpected length`) : answer(data, negotiation, host);
  return { name, answer: guarded };
}

const list: Handler = (_data, negotiation, host) => {
  negotiation.listed = host.exports.size;
  const servers = [...host.exports.values()].map((served) => ({
    type: OptionReply.server,
    data: encodeServerReply(served),
  }));
  return { replies: [...servers, ack] };
};

const startTls: Handler = (_data, negotiation, { tls }) => {
  if (negotiation.secure) return invalid('TLS already enabled');
  return tls ? { replies: [ack], outcome: 'secure' } : refuse(OptionReply.errPolicy, 'TLS not configured');
};

const structuredReply: Handler = (_data, negotiation) => {
  if (negotiation.extended) {
    return refuse(OptionReply.errExtendedHeadersRequired, 'extended headers already negotiated');
  }
  if (negotiation.structured) return invalid('structured reply already negotiated');
  negotiation.structured = true;
  return { replies: [ack] };
};

const extendedHeaders: Handler = (_data, negotiation) => {
  if (negotiation.extended) return invalid('extended headers already negotiated');
  negotiation.extended = true;
  return { replies: [ack] };
};

/** What the flags of an export depend on. */
export function flagOptions(
  served: ServedExport,
  { structured, extended, selection }: Negotiation,
  { multiple }: Pick<OptionHost, 'multiple'>,
): FlagOptions {
  const contexts = selection?.served === served ? selection.contexts.size : 0;
  return { chunks: structured || extended, statusPayload: extended && contexts > 0, multiple };
}

/** What INFO and GO tell, with the export they are about if there is such an export. */
const describe = (
  data: Uint8Array,
  negotiation: Negotiation,
  host: OptionHost,
  { commits }: { readonly commits: boolean },
): OptionAnswer => {
  const { name, infos } = decodeGoRequest(data);
  const served = host.exports.get(name);
  if (served === undefined) return unknownExport(name);
  const flags = transmissionFlags(served, flagOptions(served, negotiation, host));
  const isObeyed = infos.includes(InfoType.blockSize);
  const told: Exclude<Info, { type: 'unknown' }>[] = [];
  if (infos.includes(InfoType.name)) told.push({ type: 'name', name: served.name });
  if (served.description !== undefined) told.push({ type: 'description', description: served.description });
  told.push({ type: 'block-size', ...(isObeyed || !commits ? served.sizes : lenientSizes(served.sizes)) });
  told.push({ type: 'export', size: served.source.size, flags });
  const replies = told.map((info) => ({ type: OptionReply.info, data: encodeInfo(info) }));
  return { replies: [...replies, ack], outcome: { served, isObeyed } };
};

const info: Handler = (...args) => ({ replies: describe(...args, { commits: false }).replies });
const go: Handler = (...args) => describe(...args, { commits: true });

const contextReplies = (contexts: Iterable<readonly [number, MetaContext]>): OptionAnswer => {
  const told = Array.from(contexts, ([id, { name }]) => ({
    type: OptionReply.metaContext,
    data: encodeMetaContextReply({ id, name }),
  }));
  return { replies: [...told, ack] };
};

const listMetaContext: Handler = (data, _negotiation, host) => {
  const { name, queries, count } = decodeMetaContextRequest(data);
  const served = host.exports.get(name);
  if (served === undefined) return unknownExport(name);
  const found = [...served.contexts.values()].filter(
    (context) => count === 0 || queries.some((query) => matchesQuery(query, context.name)),
  );
  // Identifiers are reserved in a list.
  return contextReplies(found.map((context) => [0, context] as const));
};

const setMetaContext: Handler = (data, negotiation, host) => {
  negotiation.selection = undefined;
  if (!negotiation.structured && !negotiation.extended) {
    return invalid("request option 'set meta context' when structured reply is not negotiated");
  }
  const { name, queries } = decodeMetaContextRequest(data);
  const served = host.exports.get(name);
  if (served === undefined) return unknownExport(name);
  const contexts = new Map([...served.contexts].filter(([, context]) => queries.includes(context.name)));
  negotiation.selection = { served, contexts };
  return contextReplies(contexts);
};

const rows: ReadonlyMap<number, Row> = new Map<number, Row>([
  // A client that says goodbye may add what it likes.
  [Option.abort, { name: 'abort', answer: () => ({ replies: [ack], outcome: 'abort' }) }],
  [Option.list, bare('list', list)],
  [Option.startTls, bare('starttls', startTls)],
  [Option.info, { name: 'info', answer: info }],
  [Option.go, { name: 'go', answer: go }],
  [Option.structuredReply, bare('structured reply', structuredReply)],
  [Option.extendedHeaders, bare('extended headers', extendedHeaders)],
  [Option.listMetaContext, { name: 'list meta context', answer: listMetaContext }],
  [Option.setMetaContext, { name: 'set meta context', answer: setMetaContext }],
]);

/** Answers any option but EXPORT_NAME. What a client sends never makes it throw. */
export function answerOption(
  option: number,
  data: Uint8Array,
  negotiation: Negotiation,
  host: OptionHost,
): OptionAnswer {
  if (host.stopping && option !== Option.abort) {
    return refuse(OptionReply.errShutdown, 'the server is being stopped');
  }
  if (host.tls?.required && !negotiation.secure && option !== Option.startTls && option !== Option.abort) {
    return refuse(OptionReply.errTlsRequired, `Option 0x${option.toString(16)} not permitted before TLS`);
  }
  const row = rows.get(option);
  if (row === undefined) return refuse(OptionReply.errUnsupported, `Unsupported option ${option}`);
  try {
    return row.answer(data, negotiation, host);
  } catch (error) {
    if (!isDiskError(error)) throw error;
    return invalid(`option '${row.name}': ${error.message}`);
  }
}
