/**
 * Asks a server which exports it has, and about each of them, without opening one.
 *
 * Servers bound the options of one connection, so the exports are asked about in small groups, a connection each.
 *
 * Spec: proto.md, "Option types", NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_LIST_META_CONTEXT
 */
import { encodeOption } from '../protocol/handshake.ts';
import { Option, OptionReply } from '../protocol/numbers.ts';
import { decodeMetaContextReply, encodeMetaContextRequest } from '../protocol/options.ts';
import { askDetails, type Details, structuredReplies } from './handshake.ts';
import { listExports } from './list.ts';
import { type ConnectOptions, type Negotiation, perform } from './negotiation.ts';
import { ask, giveUp, greet, isFinal, startTls, type TlsMode, unexpectedReply } from './options.ts';
import type { NbdTarget } from './uri.ts';
import { loadTls } from './uri-tls.ts';

/** Two options each, and two more: nbdkit takes 32 on a connection. */
const exportsAtOnce = 12;
/** More than any server has; those beyond are an attack. */
const mostContexts = 65_536;

/** An export as its server describes it. Texts are the server's: untrusted. */
export interface ExportDescription {
  readonly name: string;
  readonly description: string | undefined;
  /** Undefined: the server would not say. */
  readonly details: Details | undefined;
  /** The server agrees on structured replies. */
  readonly structured: boolean;
  readonly contexts: readonly string[];
}

/** All exports of a server, in its order. @throws {DiskError} as `listExports` */
export async function describeExports(
  { address, tls: wish }: Pick<NbdTarget, 'address' | 'tls'>,
  given: ConnectOptions = {},
): Promise<readonly ExportDescription[]> {
  const options = { ...given, tls: given.tls ?? (wish && loadTls(wish)) };
  const listed = await listExports(address, options);
  const tls = options.tls && (options.tls.mode ?? 'require');
  const described: ExportDescription[] = [];
  for (let at = 0; at < listed.length; at += exportsAtOnce) {
    const names = listed.slice(at, at + exportsAtOnce);
    const takeOver = (found: readonly ExportDescription[], transport: { end(): Promise<void> }) =>
      transport.end().then(() => found);
    described.push(...(await perform(address, descriptions(names, tls), takeOver, options)));
  }
  return described;
}

interface Listed {
  readonly name: string;
  readonly description?: string | undefined;
}

function* descriptions(
  listed: readonly Listed[],
  tls: TlsMode | undefined,
): Negotiation<readonly ExportDescription[]> {
  const { fixed } = yield* greet();
  yield* startTls(tls, fixed);
  const structured = fixed && (yield* structuredReplies());
  const found: ExportDescription[] = [];
  for (const { name, description } of listed) {
    const { details, refusal } = yield* askDetails(Option.info, name);
    if (refusal !== undefined && isFinal(refusal)) return yield* giveUp(refusal.error);
    const contexts = structured && details !== undefined ? yield* listContexts(name) : [];
    found.push({ name, description: details?.description ?? description, details, structured, contexts });
  }
  yield { send: encodeOption(Option.abort), take: 0 };
  return found;
}

function* listContexts(exportName: string): Negotiation<readonly string[]> {
  const option = Option.listMetaContext;
  const contexts: string[] = [];
  const request = encodeMetaContextRequest({ name: exportName, queries: [] });
  const refusal = yield* ask(option, request, mostContexts, (type, data) => {
    if (type !== OptionReply.metaContext) throw unexpectedReply(option, type);
    contexts.push(decodeMetaContextReply(data).name);
  });
  return refusal === undefined ? contexts : [];
}
