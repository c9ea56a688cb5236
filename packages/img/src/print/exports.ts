/**
 * What a server offers, as text and as JSON.
 *
 * The text is that of `qemu-nbd --list`, the JSON has the members of `nbdinfo --list --json`, because scripts read both.
 */
import { printable } from '@strata/chain';
import { type ExportDescription, formatNbdUri, type NbdTarget } from '@strata/nbd';

/** Of the transmission flags, from the lowest bit on; the lowest itself has no name. */
const flagNames: readonly (string | undefined)[] = [
  undefined,
  'readonly',
  'flush',
  'fua',
  'rotational',
  'trim',
  'zeroes',
  'df',
  'multi',
  'resize',
  'cache',
  'fast-zero',
  'block-status-payload',
];

/** The text of `qemu-nbd --list`. */
export function exportsText(exports: readonly ExportDescription[]): string {
  return `exports available: ${exports.length}\n${exports.map(exportText).join('')}`;
}

function exportText({ name, description, details, contexts }: ExportDescription): string {
  const lines = [` export: '${printable(name)}'`];
  if (description) lines.push(`  description: ${printable(description)}`);
  if (details !== undefined) {
    const names = flagNames.filter((flag, bit) => flag !== undefined && (details.flags & (1 << bit)) !== 0);
    lines.push(`  size:  ${details.size}`, `  flags: 0x${details.flags.toString(16)} ( ${names.join(' ')} )`);
  }
  const sizes = details?.blockSizes;
  if (sizes !== undefined) {
    lines.push(`  min block: ${sizes.minimum}`, `  opt block: ${sizes.preferred}`);
    lines.push(`  max block: ${sizes.maximumPayload}`);
  }
  if (contexts.length > 0) lines.push(`  available meta contexts: ${contexts.length}`);
  for (const context of contexts) lines.push(`   ${printable(context)}`);
  return lines.map((line) => `${line}\n`).join('');
}

/** The members of `nbdinfo --list --json`. */
export function exportsJson(server: NbdTarget, exports: readonly ExportDescription[]): string {
  const report = {
    protocol: 'newstyle-fixed',
    TLS: server.tls !== undefined,
    structured: exports.some(({ structured }) => structured),
    exports: exports.map((each) => exportJson(server, each)),
  };
  return `${JSON.stringify(report, undefined, 4)}\n`;
}

function exportJson(
  server: NbdTarget,
  { name, description, details, contexts }: ExportDescription,
): Readonly<Record<string, unknown>> {
  const has = (flag: string): boolean | undefined =>
    details && (details.flags & (1 << flagNames.indexOf(flag))) !== 0;
  return {
    'export-name': name,
    description,
    uri: formatNbdUri({ ...server, exportName: name }),
    contexts: contexts.length > 0 ? contexts : undefined,
    is_rotational: has('rotational'),
    is_read_only: has('readonly'),
    can_cache: has('cache'),
    can_df: has('df'),
    can_fast_zero: has('fast-zero'),
    can_flush: has('flush'),
    can_fua: has('fua'),
    can_multi_conn: has('multi'),
    can_trim: has('trim'),
    can_zero: has('zeroes'),
    block_size_minimum: details?.blockSizes?.minimum,
    block_size_preferred: details?.blockSizes?.preferred,
    block_size_maximum: details?.blockSizes?.maximumPayload,
    'export-size': details?.size,
    'export-size-str': details && shortSize(details.size),
  };
}

/** A size as libnbd's tools shorten it: in the largest unit that it is a whole number of. */
function shortSize(size: number): string {
  let [count, unit] = [size, 0];
  for (; count >= 1024 && count % 1024 === 0; unit++) count /= 1024;
  return `${count}${['', 'K', 'M', 'G', 'T', 'P'][unit]}`;
}
