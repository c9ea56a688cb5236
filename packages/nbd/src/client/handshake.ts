/**
 * The negotiation that opens an export: everything useful is asked for, nothing optional is insisted on.
 *
 * Extended headers or else structured replies, then metadata contexts (which need them), then GO with its information;
 * a server that does not know GO, or no option but one, is asked by EXPORT_NAME. An oldstyle server is asked nothing.
 *
 * Spec: proto.md, "Option types", "Size constraints"
 */
import { DiskError, isDiskError } from '@strata/block';
import {
  decodeExportNameReply,
  type ExportSummary,
  encodeOption,
  exportNameReplyLength,
  reservedZeroes,
} from '../protocol/handshake.ts';
import { InfoType, Option, OptionReply, TransmissionFlag } from '../protocol/numbers.ts';
import {
  type BlockSizes,
  decodeInfo,
  decodeMetaContextReply,
  encodeGoRequest,
  encodeMetaContextRequest,
  type MetaContextReply,
} from '../protocol/options.ts';
import type { ReplyStyle } from '../protocol/reply.ts';
import { printable } from '../protocol/text.ts';
import type { Negotiation } from './negotiation.ts';
import {
  ask,
  giveUp,
  greet,
  isFinal,
  type Refusal,
  startTls,
  type TlsMode,
  unexpectedReply,
} from './options.ts';

/** What is asked for. */
export interface Wanted {
  readonly exportName: string;
  /** Full names of metadata contexts; a server that lacks one leaves it out. */
  readonly contexts: readonly string[];
  /** Undefined: no TLS. */
  readonly tls?: TlsMode | undefined;
}

/** What was agreed on. */
export interface Negotiated extends ExportSummary {
  readonly style: ReplyStyle;
  /** Undefined if the server did not say. */
  readonly blockSizes: BlockSizes | undefined;
  /** The server's own name for the export, where it told one. */
  readonly name: string | undefined;
  readonly description: string | undefined;
  /** In the server's order. */
  readonly contexts: readonly MetaContextReply[];
}

/** As many INFO replies as no server sends. */
const mostInfos = 64;
const largestMinimum = 65536;

/**
 * @throws {DiskError} not-found, denied, closed as the server answers;
 *   limit for an export above 2^53 - 1 bytes; protocol
 */
export function* openExport(wanted: Wanted): Negotiation<Negotiated> {
  const { fixed, noZeroes, oldstyle } = yield* greet();
  yield* startTls(wanted.tls, fixed);
  if (oldstyle !== undefined) return checked(theOnlyExport(wanted, oldstyle));
  if (!fixed) return checked({ ...(yield* exportName(wanted, noZeroes)), style: 'simple', contexts: [] });
  const style = yield* replyStyle();
  const contexts = style === 'simple' ? [] : yield* selectContexts(wanted);
  const details = (yield* go(wanted)) ?? (yield* withoutGo(wanted, noZeroes, style));
  return checked({ ...details, style, contexts });
}

/** What a server says of an export in answer to INFO or GO. */
export type Details = Omit<Negotiated, 'style' | 'contexts'>;

/** What is asked for by EXPORT_NAME has no more details than this. */
const noDetails = { blockSizes: undefined, name: undefined, description: undefined };

/** An oldstyle server has one export, without a name. @throws {DiskError} not-found if another one is wanted */
function theOnlyExport({ exportName }: Wanted, summary: ExportSummary): Negotiated {
  if (exportName === '') return { ...summary, ...noDetails, style: 'simple', contexts: [] };
  throw new DiskError('not-found', 'Server does not support non-empty export names');
}

/** Extended headers if the server has them, or else structured replies, or neither. */
function* replyStyle(): Negotiation<ReplyStyle> {
  if (yield* agrees(Option.extendedHeaders)) return 'extended';
  return (yield* structuredReplies()) ? 'structured' : 'simple';
}

/** A server that has extended headers must know GO. */
function* withoutGo(wanted: Wanted, noZeroes: boolean, style: ReplyStyle): Negotiation<Details> {
  if (style === 'extended')
    throw new DiskError('protocol', 'the server has extended headers and does not know GO');
  return yield* exportName(wanted, noZeroes);
}

/** Asks for structured replies. True: they were agreed on. */
export function structuredReplies(): Negotiation<boolean> {
  return agrees(Option.structuredReply);
}

function* agrees(option: number): Negotiation<boolean> {
  const refusal = yield* ask(option, new Uint8Array(), 0, (type) => {
    throw unexpectedReply(option, type);
  });
  if (refusal !== undefined && isFinal(refusal)) return yield* giveUp(refusal.error);
  return refusal === undefined;
}

function* selectContexts({ exportName, contexts }: Wanted): Negotiation<readonly MetaContextReply[]> {
  if (contexts.length === 0) return [];
  const option = Option.setMetaContext;
  const selected: MetaContextReply[] = [];
  const request = encodeMetaContextRequest({ name: exportName, queries: contexts });
  const refusal = yield* ask(option, request, contexts.length, (type, data) => {
    if (type !== OptionReply.metaContext) throw unexpectedReply(option, type);
    const context = decodeMetaContextReply(data);
    if (!contexts.includes(context.name)) {
      throw new DiskError('protocol', `the server selected context '${printable(context.name)}' unasked`);
    }
    if (selected.some(({ id, name }) => id === context.id || name === context.name)) {
      throw new DiskError('protocol', `the server selected context '${context.name}' twice`);
    }
    selected.push(context);
  });
  if (refusal === undefined) return selected;
  return isFinal(refusal) ? yield* giveUp(refusal.error) : [];
}

/** Undefined: the server does not know GO. */
function* go({ exportName }: Wanted): Negotiation<Details | undefined> {
  const { details, refusal } = yield* askDetails(Option.go, exportName);
  if (refusal === undefined) return details;
  return refusal.type === OptionReply.errUnsupported ? undefined : yield* giveUp(refusal.error);
}

/** Asks about an export by INFO or GO. One of the two comes back. @throws {DiskError} protocol, limit */
export function* askDetails(
  option: number,
  exportName: string,
): Negotiation<{ readonly details?: Details; readonly refusal?: Refusal }> {
  const infos = [InfoType.name, InfoType.description, InfoType.blockSize];
  let summary: ExportSummary | undefined;
  let blockSizes: BlockSizes | undefined;
  let name: string | undefined;
  let description: string | undefined;
  const request = encodeGoRequest({ name: exportName, infos });
  const refusal = yield* ask(option, request, mostInfos, (type, data) => {
    if (type !== OptionReply.info) throw unexpectedReply(option, type);
    const info = decodeInfo(data);
    if (info.type === 'export') summary = { size: info.size, flags: info.flags };
    else if (info.type === 'block-size') blockSizes = sizesOf(info);
    else if (info.type === 'name') name = info.name;
    else if (info.type === 'description') description = info.description;
  });
  if (refusal !== undefined) return { refusal };
  if (summary === undefined)
    throw new DiskError('protocol', 'the server did not tell the size of the export');
  return { details: { ...summary, blockSizes, name, description } };
}

function sizesOf({ minimum, preferred, maximumPayload }: BlockSizes): BlockSizes {
  return { minimum, preferred, maximumPayload };
}

function* exportName(wanted: Wanted, noZeroes: boolean): Negotiation<Details> {
  const send = encodeOption(Option.exportName, Buffer.from(wanted.exportName, 'utf8'));
  const take = exportNameReplyLength + (noZeroes ? 0 : reservedZeroes);
  let reply: Buffer;
  try {
    reply = yield { send, take };
  } catch (cause) {
    if (!isDiskError(cause, 'closed')) throw cause;
    const text = 'the server closed the connection when asked for the export, which may not exist';
    throw new DiskError('closed', text, { cause });
  }
  const summary = decodeExportNameReply(reply.subarray(0, exportNameReplyLength));
  return { ...summary, ...noDetails };
}

/** @throws {DiskError} protocol for what contradicts itself */
function checked(negotiated: Negotiated): Negotiated {
  const { size, blockSizes } = negotiated;
  let { flags } = negotiated;
  if ((flags & TransmissionFlag.hasFlags) === 0) {
    throw new DiskError('protocol', 'the transmission flags do not have their lowest bit set');
  }
  if (negotiated.style === 'simple') flags &= ~TransmissionFlag.sendDf;
  if (negotiated.style !== 'extended') flags &= ~TransmissionFlag.blockStatusPayload;
  if ((flags & TransmissionFlag.sendWriteZeroes) === 0) flags &= ~TransmissionFlag.sendFastZero;
  if (blockSizes !== undefined) checkBlockSizes(blockSizes, size);
  return { ...negotiated, flags };
}

function checkBlockSizes({ minimum, preferred, maximumPayload }: BlockSizes, size: number): void {
  const isPower = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
  if (!isPower(minimum) || minimum > largestMinimum) {
    throw new DiskError('protocol', `the minimum block size ${minimum} is not a power of two up to 64 KiB`);
  }
  if (!isPower(preferred) || preferred < minimum) {
    throw new DiskError(
      'protocol',
      `the preferred block size ${preferred} does not fit the minimum ${minimum}`,
    );
  }
  if (maximumPayload < minimum) {
    throw new DiskError(
      'protocol',
      `the maximum payload ${maximumPayload} is below the block size ${minimum}`,
    );
  }
  if (size % minimum !== 0) {
    throw new DiskError(
      'protocol',
      `export size ${size} is not a multiple of the minimum block size ${minimum}`,
    );
  }
}
