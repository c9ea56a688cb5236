/** The command line of `serve`: qemu-nbd's options under its names, and what goes beyond it. */
import { parseSize } from '@strata/block';
import { printable } from '@strata/chain';
import { allowRow, formatRow, imageOptionsRow, laterRow, readSize } from '../arguments.ts';
import type { Given } from '../command.ts';
import { objectRow } from '../objects/objects.ts';
import type { OptionTable } from '../options.ts';
import { UsageError } from '../report.ts';
import { snapshotRow } from '../snapshot-choice.ts';

/** Where a server listens that is not told otherwise. */
export const standardPort = 10_809;

/** Of a name or a description, in bytes of UTF-8. Spec: proto.md, "Protocol phases", strings */
const longestText = 4096;

export const serveOptions = {
  socket: { letter: 'k', name: 'socket', value: 'PATH', help: 'listen on a unix socket' },
  bind: {
    letter: 'b',
    name: 'bind',
    value: 'ADDRESS',
    help: 'listen on this address; 127.0.0.1 if not given',
  },
  port: {
    letter: 'p',
    name: 'port',
    value: 'PORT',
    help: `listen on this TCP port, 0 for a free one; ${standardPort} if not given`,
    read: readPort,
  },
  insecure: { name: 'insecure', help: 'listen without TLS where other machines can connect' },
  shared: {
    letter: 'e',
    name: 'shared',
    value: 'NUM',
    help: 'clients at a time, 0 for no limit; 100 if not given',
    read: readShared,
  },
  persistent: { letter: 't', name: 'persistent', help: 'stay when the last client leaves; so if not given' },
  once: { name: 'once', help: 'end when the last client has left, as qemu-nbd does without -t' },
  exportName: {
    letter: 'x',
    name: 'export-name',
    value: 'NAME',
    help: 'name of the export; NAME=FILE names one of several',
    read: (text: string) => bounded('name', text),
  },
  description: {
    letter: 'D',
    name: 'description',
    value: 'TEXT',
    help: 'what the export is, for people',
    read: (text: string) => bounded('description', text),
  },
  format: { ...formatRow, name: 'format', help: 'format of the images; needed to write to raw ones' },
  readOnly: { letter: 'r', name: 'read-only', help: 'export for reading only' },
  offset: {
    letter: 'o',
    name: 'offset',
    value: 'OFFSET',
    help: 'export from this offset of the disk on',
    read: readOffset,
  },
  partition: {
    letter: 'P',
    name: 'partition',
    value: 'NUM',
    help: 'export one partition, MBR (1-4, logical from 5 on) or GPT',
    read: readPartition,
  },
  snapshot: {
    letter: 's',
    name: 'snapshot',
    help: 'keep what clients write in a temporary overlay, and drop it at the end',
  },
  loaded: { ...snapshotRow, name: 'load-snapshot', help: `${snapshotRow.help}; for reading only` },
  depth: { letter: 'A', name: 'allocation-depth', help: 'offer qemu:allocation-depth; always so' },
  bitmaps: {
    letter: 'B',
    name: 'bitmap',
    value: 'NAME',
    help: 'offer qemu:dirty-bitmap:NAME, a bitmap of the image or of one under it',
    many: true,
  },
  allBitmaps: { name: 'all-bitmaps', help: 'offer all dirty bitmaps that can be used' },
  cache: {
    name: 'cache',
    value: 'MODE',
    help: 'none, writeback (if not given), writethrough, directsync or unsafe; the page cache is used in all',
    many: true,
    read: oneOf(
      (text) => `Invalid cache mode \`${text}'`,
      'none',
      'off',
      'writeback',
      'writethrough',
      'directsync',
      'unsafe',
    ),
  },
  noCache: { letter: 'n', name: 'nocache', help: 'as --cache=none' },
  discard: {
    name: 'discard',
    value: 'MODE',
    help: 'what TRIM does: unmap (if not given) gives space back, ignore nothing',
    read: oneOf((text) => `Invalid discard mode \`${text}'`, 'ignore', 'off', 'unmap', 'on'),
  },
  detectZeroes: {
    name: 'detect-zeroes',
    value: 'MODE',
    help: 'what becomes of zeros that are written: off (if not given), on, unmap',
    read: oneOf(
      (text) => `Failed to parse detect_zeroes mode: invalid parameter value: ${text}`,
      'off',
      'on',
      'unmap',
    ),
  },
  aio: {
    name: 'aio',
    value: 'MODE',
    help: 'threads, native or io_uring; accepted for the sake of scripts',
    read: oneOf((text) => `Invalid aio mode '${text}'`, 'threads', 'native', 'io_uring'),
  },
  list: { letter: 'L', name: 'list', help: 'list the exports of the server at -k, or -b and -p, instead' },
  fork: { name: 'fork', help: 'go on in the background; this process ends when clients may connect' },
  pidFile: { name: 'pid-file', value: 'PATH', help: "write the server's process number to this file" },
  readyFd: {
    name: 'ready-fd',
    value: 'N',
    help: 'write the URIs to this descriptor and close it when clients may connect',
    read: readCount,
  },
  metrics: {
    name: 'metrics',
    value: '[HOST:]PORT',
    help: 'answer Prometheus over HTTP at /metrics; on 127.0.0.1 if no host is given',
  },
  control: {
    name: 'control',
    value: 'SOCKET',
    help: 'take commands (QMP, as of qemu-storage-daemon) on this unix socket; img ctl gives them',
  },
  verbose: { letter: 'v', name: 'verbose', help: 'log clients that come and go' },
  logFormat: {
    name: 'log-format',
    value: 'text|json',
    help: 'log on standard error, a line each event',
    read: oneOf(() => '--log-format must be used with text or json as argument.', 'text', 'json'),
  },
  logFile: { name: 'log-file', value: 'PATH', help: 'log to the end of this file instead' },
  allow: allowRow,
  tls: {
    name: 'tls-creds',
    value: 'ID',
    help: 'speak TLS, and nothing else, with the credentials of --object',
  },
  authorization: { name: 'tls-authz', value: 'ID', help: 'let in whom this --object lets in' },
  hostname: { name: 'tls-hostname', value: 'NAME', help: 'with -L: whose certificate the server must have' },
  objects: objectRow,
  imageOptions: imageOptionsRow,
  connect: laterRow({ letter: 'c', name: 'connect', value: 'DEV', help: 'connect a device of the kernel' }),
  disconnect: laterRow({ letter: 'd', name: 'disconnect', help: 'disconnect a device of the kernel' }),
  selinux: laterRow({ name: 'selinux-label', value: 'LABEL', help: 'label the socket' }),
  trace: laterRow({ letter: 'T', name: 'trace', value: 'PATTERN', help: 'trace events' }),
} as const satisfies OptionTable;

/** What the user gave. */
export type ServeOptions = Given<typeof serveOptions>;

/** @throws {UsageError} for options that do not go together, in qemu-nbd's words where it has some */
export function refuseContradictions(
  given: ServeOptions,
  operands: readonly string[],
  words: readonly string[],
): void {
  const rules: readonly (readonly [boolean | undefined, string])[] = [
    [given.list && operands.length > 0, 'List mode is incompatible with a file name'],
    [given.cache.length + (given.noCache ? 1 : 0) > 1, '-n and --cache can only be specified once'],
    [
      given.detectZeroes === 'unmap' && (given.discard === 'ignore' || given.discard === 'off'),
      'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap',
    ],
    [given.control !== undefined && given.snapshot, "options '-s' and '--control' cannot be used together"],
    [given.fork && words.length > 0, "option '--fork' and a command contradict each other"],
    [given.persistent && given.once, "options '-t' and '--once' contradict each other"],
    [
      given.offset !== undefined && given.partition !== undefined,
      "options '-o' and '-P' cannot be used together",
    ],
    [
      given.socket !== undefined && (given.bind !== undefined || given.port !== undefined),
      "option '-k' listens on a unix socket and goes with neither '-b' nor '-p'",
    ],
    [
      given.exportName !== undefined && operands.length > 1,
      "option '-x' names one export, and there are several images",
    ],
  ];
  for (const [holds, sentence] of rules) if (holds) throw new UsageError(sentence);
}

function oneOf<const Word extends string>(
  sentence: (text: string) => string,
  ...words: readonly Word[]
): (text: string) => Word {
  return (text) => {
    const found = words.find((word) => word === text);
    if (found === undefined) throw new UsageError(sentence(text));
    return found;
  };
}

function bounded(what: string, text: string): string {
  if (Buffer.byteLength(text) <= longestText) return text;
  throw new UsageError(`export ${what} '${printable(text.slice(0, 80))}...' too long`);
}

function readPort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new UsageError(`Invalid port '${text}': expected 0 to 65535`);
}

function readShared(text: string): number {
  const count = countIn(text);
  if (count === undefined) throw new UsageError(`Invalid shared device number '${text}'`);
  return count;
}

function readCount(text: string): number {
  const count = countIn(text);
  if (count === undefined) throw new UsageError(`Invalid number '${text}'`);
  return count;
}

function readPartition(text: string): number {
  const number = countIn(text);
  if (number === undefined || number === 0) throw new UsageError(`Invalid partition number '${text}'`);
  return number;
}

function readOffset(text: string): number {
  if (typeof parseSize(text) !== 'number') throw new UsageError(`Invalid offset '${text}'`);
  return readSize('offset')(text);
}

function countIn(text: string): number | undefined {
  const count = Number(text);
  return /^\d+$/.test(text) && Number.isSafeInteger(count) ? count : undefined;
}
