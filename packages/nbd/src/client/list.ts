/** Asks a server which exports it has. */
import { DiskError } from '@strata/block';
import { encodeOption } from '../protocol/handshake.ts';
import { Option, OptionReply } from '../protocol/numbers.ts';
import { decodeServerReply, type ServerReply } from '../protocol/options.ts';
import { type ConnectOptions, type Negotiation, perform } from './negotiation.ts';
import { ask, giveUp, greet, startTls, type TlsMode, unexpectedReply } from './options.ts';
import type { NbdAddress } from './uri.ts';

/** More than any server lists; a list without an end is an attack. */
const mostExports = 10_000;

/**
 * The exports of a server, in its order. Names and descriptions are the server's text: untrusted.
 *
 * @throws {DiskError} denied if the server keeps its list to itself; limit above 10,000 exports; and as `openNbd`
 */
export function listExports(
  address: NbdAddress,
  options: ConnectOptions = {},
): Promise<readonly ServerReply[]> {
  const takeOver = (exports: readonly ServerReply[], transport: { end(): Promise<void> }) =>
    transport.end().then(() => exports);
  const tls = options.tls && (options.tls.mode ?? 'require');
  return perform(address, listNegotiation(tls), takeOver, options);
}

/** The negotiation that asks for the list and takes leave. */
export function* listNegotiation(tls?: TlsMode): Negotiation<readonly ServerReply[]> {
  const { fixed } = yield* greet();
  yield* startTls(tls, fixed);
  if (!fixed) throw new DiskError('not-supported', 'the server is too old to list its exports');
  const exports: ServerReply[] = [];
  const refusal = yield* ask(Option.list, new Uint8Array(), mostExports, (type, data) => {
    if (type !== OptionReply.server) throw unexpectedReply(Option.list, type);
    exports.push(decodeServerReply(data));
  });
  if (refusal !== undefined) return yield* giveUp(refusal.error);
  yield { send: encodeOption(Option.abort), take: 0 };
  return exports;
}
