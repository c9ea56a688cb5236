/** `serve -L`: lists what another server offers, as `qemu-nbd -L` does. */
import { resolve } from 'node:path';
import { isDiskError } from '@strata/block';
import { type ClientTls, describeExports, type NbdAddress } from '@strata/nbd';
import { exportsText } from '../print/exports.ts';
import { CommandError } from '../report.ts';
import type { Terminal } from '../terminal.ts';
import { type ServeOptions, standardPort } from './options.ts';

/** The server that the options name. */
export function listedAddress({ socket, bind, port }: ServeOptions): NbdAddress {
  if (socket !== undefined) return { path: resolve(socket) };
  return { host: bind ?? '127.0.0.1', port: port ?? standardPort };
}

/** @throws {CommandError} if the server cannot be asked */
export async function printExports(
  address: NbdAddress,
  tls: ClientTls | undefined,
  terminal: Terminal,
): Promise<void> {
  try {
    terminal.print(exportsText(await describeExports({ address }, { tls })));
  } catch (error) {
    throw isDiskError(error) ? new CommandError(error.message, { cause: error }) : error;
  }
}
