/**
 * `--tls-creds`, `--tls-authz` and `--tls-hostname`: how `serve` speaks TLS with its clients, or with the server it lists.
 *
 * What is not asked for is not loaded.
 */
import { isDiskError } from '@strata/block';
import type { ClientTls, ServerTls } from '@strata/nbd';
import { CommandError, UsageError } from '../report.ts';
import type { ServeOptions } from './options.ts';

/** Undefined: plain text. @throws {CommandError} for what are no credentials of a server */
export async function serverTlsOf(given: ServeOptions): Promise<ServerTls | undefined> {
  const { tls, authorization: judge, objects } = given;
  refuseWithout(given);
  if (given.hostname !== undefined) throw new UsageError('TLS hostname is only supported with export list');
  if (tls === undefined) return undefined;
  const { serverTls } = await import('../objects/tls-creds.ts');
  const { authorization } = await import('../objects/authz.ts');
  return credentials(() =>
    serverTls(objects, tls, judge === undefined ? undefined : authorization(objects, judge)),
  );
}

/** Undefined: plain text. @throws {CommandError} for what are no credentials of a client */
export async function clientTlsOf(given: ServeOptions): Promise<ClientTls | undefined> {
  const { tls, authorization: judge, hostname, objects } = given;
  refuseWithout(given);
  if (judge !== undefined) throw new UsageError('TLS authorization is incompatible with export list');
  if (tls === undefined) return undefined;
  const { clientTls } = await import('../objects/tls-creds.ts');
  return credentials(() => clientTls(objects, tls, hostname));
}

function refuseWithout({ tls, authorization, hostname }: ServeOptions): void {
  if (tls !== undefined) return;
  if (hostname !== undefined) throw new UsageError('--tls-hostname is not permitted without --tls-creds');
  if (authorization !== undefined) throw new UsageError('--tls-authz is not permitted without --tls-creds');
}

function credentials<T>(find: () => T): T {
  try {
    return find();
  } catch (error) {
    if (!isDiskError(error)) throw error;
    throw new CommandError(`Failed to get TLS creds: ${error.message}`, { cause: error });
  }
}
