/**
 * An image as a tree of nodes: a format over a file, and perhaps over an image that takes the place of the backing file.
 *
 * This is what a person can type as `json:{...}` or behind `--image-opts`, in QEMU's names for drivers and options.
 * Nothing that stands inside an image ever becomes a node.
 */
import { DiskError } from '@strata/block';
import { supportNamed } from '../known-formats.ts';
import { type CommonOptions, takeCommon } from './common-options.ts';
import { optionsUnder, type Scalar } from './flat-options.ts';

/** A format over a file. */
export interface FormatNode extends CommonOptions {
  readonly kind: 'format';
  /** Undefined: probe. */
  readonly driver: string | undefined;
  /** A file used without a format is shown under the name of its protocol. */
  readonly shownAs: string | undefined;
  /** Its own options. */
  readonly options: ReadonlyMap<string, Scalar>;
  readonly file: ImageNode;
  /** Undefined: what the image itself names. */
  readonly backing: FormatNode | 'none' | undefined;
  /** Undefined: what the image itself names. */
  readonly dataFile: ProtocolNode | undefined;
}

/** A place for bytes. */
export interface ProtocolNode extends CommonOptions {
  readonly kind: 'protocol';
  readonly driver: Protocol;
  readonly options: ReadonlyMap<string, Scalar>;
}

/** A node. */
export type ImageNode = FormatNode | ProtocolNode;

const protocols = {
  file: 'file',
  host_device: 'file',
  host_cdrom: 'file',
  nbd: 'nbd',
} as const;

/** The places for bytes that a node can be. */
export type Protocol = (typeof protocols)[keyof typeof protocols];

/** Drivers of QEMU's tools that are not here. */
const absentDrivers: ReadonlySet<string> = new Set([
  ...[
    'blkdebug',
    'blklogwrites',
    'blkreplay',
    'blkverify',
    'bochs',
    'cloop',
    'compress',
    'copy-before-write',
  ],
  ...[
    'copy-on-read',
    'dmg',
    'ftp',
    'ftps',
    'gluster',
    'http',
    'https',
    'io_uring',
    'iscsi',
    'nfs',
    'null-aio',
  ],
  ...['null-co', 'nvme', 'nvme-io_uring', 'parallels', 'preallocate', 'qcow', 'qed', 'quorum', 'rbd'],
  ...['replication', 'snapshot-access', 'ssh', 'throttle', 'vdi', 'vhdx', 'vmdk', 'vpc', 'vvfat'],
]);

/** Nodes inside each other; as many as a chain may have images. */
const deepest = 200;

const children = ['file', 'backing', 'data-file'];

/** The image that flat options describe. @throws {DiskError} */
export function imageNode(options: ReadonlyMap<string, Scalar>, depth = 1): FormatNode {
  const node = nodeOf(options, 'image', depth);
  if (node.kind === 'format') return node;
  const shownAs = textOf(options, 'driver');
  return {
    ...node,
    kind: 'format',
    driver: 'raw',
    shownAs,
    options: new Map(),
    file: node,
    backing: undefined,
    dataFile: undefined,
  };
}

function nodeOf(options: ReadonlyMap<string, Scalar>, part: 'image' | 'file', depth: number): ImageNode {
  if (depth > deepest) throw new DiskError('limit', `more than ${deepest} nodes inside each other`);
  const { common, rest } = takeCommon(options);
  const driver = textOf(options, 'driver') ?? impliedDriver(rest, part);
  if (driver !== undefined && Object.hasOwn(protocols, driver)) {
    const protocol = protocols[driver as keyof typeof protocols];
    return { kind: 'protocol', driver: protocol, options: rest, ...common };
  }
  if (driver !== undefined && absentDrivers.has(driver)) {
    throw new DiskError('not-supported', `driver '${driver}' is not supported`);
  }
  if (driver !== undefined && supportNamed(driver) === undefined) {
    throw new DiskError('not-supported', `Unknown driver '${driver}'`);
  }
  const own = [...rest].filter(([name]) => !children.some((child) => isOf(name, child)));
  return {
    kind: 'format',
    driver,
    shownAs: undefined,
    options: new Map(own),
    file: fileOf(rest, depth),
    backing: backingOf(rest, depth),
    dataFile: dataFileOf(rest, depth),
    ...common,
  };
}

/** What a file without a driver is: a file if it has a name. An image without one is probed if it has a file. */
function impliedDriver(options: ReadonlyMap<string, Scalar>, part: 'image' | 'file'): string | undefined {
  if (part === 'file' && textOf(options, 'filename') !== undefined) return 'file';
  if (options.has('file') || optionsUnder(options, 'file').size > 0) return undefined;
  throw new DiskError('invalid', 'Must specify either driver or file');
}

function fileOf(options: ReadonlyMap<string, Scalar>, depth: number): ImageNode {
  const under = optionsUnder(options, 'file');
  if (under.size > 0) return nodeOf(under, 'file', depth + 1);
  const reference = options.get('file');
  if (typeof reference === 'string') throw new DiskError('invalid', notReferred(reference));
  throw new DiskError('invalid', 'A block device must be specified for "file"');
}

function backingOf(options: ReadonlyMap<string, Scalar>, depth: number): FormatNode | 'none' | undefined {
  const under = optionsUnder(options, 'backing');
  if (under.size > 0) return imageNode(under, depth + 1);
  if (!options.has('backing')) return undefined;
  const reference = options.get('backing');
  if (reference === undefined || reference === '') return 'none';
  throw new DiskError('invalid', `Could not open backing file: ${notReferred(String(reference))}`);
}

function dataFileOf(options: ReadonlyMap<string, Scalar>, depth: number): ProtocolNode | undefined {
  const under = optionsUnder(options, 'data-file');
  if (under.size === 0) {
    const reference = options.get('data-file');
    if (reference === undefined) return undefined;
    throw new DiskError('invalid', notReferred(String(reference)));
  }
  const node = nodeOf(under, 'file', depth + 1);
  if (node.kind === 'protocol') return node;
  const { driver, file, options: own } = node;
  if (driver === 'raw' && own.size === 0 && file.kind === 'protocol') return file;
  throw new DiskError('not-supported', 'a data file that is part of another image is not supported');
}

/** Nodes have no names to refer to: the tools open one image at a time. */
function notReferred(reference: string): string {
  return `Cannot find device='${reference}' nor node-name='${reference}'`;
}

function textOf(options: ReadonlyMap<string, Scalar>, name: string): string | undefined {
  const value = options.get(name);
  return typeof value === 'string' ? value : undefined;
}

function isOf(name: string, child: string): boolean {
  return name === child || name.startsWith(`${child}.`);
}
