/** Says where clients find the exports: on standard output, at a descriptor, and in the variables of a command. */
import { closeSync, writeFileSync } from 'node:fs';
import { type Export, formatNbdUri, type NbdServer } from '@strata/nbd';
import { CommandError } from '../report.ts';

/** The URI of each disk, in the order of the exports; a disk with two names has the first. */
export function urisOf(
  { address }: NbdServer,
  exports: readonly Export[],
  { encrypted }: { readonly encrypted: boolean },
): readonly string[] {
  if ('fd' in address) return [];
  const tls = encrypted ? { tls: {} } : {};
  const seen = new Map<unknown, string>();
  for (const { name, device, source } of exports) {
    const disk = device ?? source;
    if (!seen.has(disk)) seen.set(disk, formatNbdUri({ address, exportName: name, user: undefined, ...tls }));
  }
  return [...seen.values()];
}

/** Writes `lines` to a descriptor and closes it. @throws {CommandError} */
export function announceAt(descriptor: number, lines: string): void {
  try {
    writeFileSync(descriptor, lines);
    closeSync(descriptor);
  } catch (error) {
    throw new CommandError(`Could not write to descriptor ${descriptor}: ${(error as Error).message}`);
  }
}

/** The variables that nbdkit sets for a command, and `uris` with a URI for each export. */
export function variablesFor(
  { address }: NbdServer,
  uris: readonly string[],
  exports: readonly Export[],
): Readonly<Record<string, string>> {
  const [uri = ''] = uris;
  return {
    uri,
    nbd: uri,
    uris: uris.join(' '),
    exportname: exports[0]?.name ?? '',
    unixsocket: 'path' in address ? address.path : '',
    port: 'port' in address ? String(address.port) : '',
  };
}
