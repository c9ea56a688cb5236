/**
 * What a server offers: exports, and what the protocol says of each.
 *
 * Spec: proto.md, "Transmission flags" and "Size constraints"
 */
import type { BlockDevice, BlockSource } from '@strata/block';
import { TransmissionFlag } from '../protocol/numbers.ts';
import type { BlockSizes } from '../protocol/options.ts';
import { allocationDepth, baseAllocation, contextIds, type MetaContext } from './contexts.ts';
import { maxPayload } from './limits.ts';

/** Spec: "Size constraints" */
const largestMinimum = 65_536;

/**
 * A disk under a name. With `source` it can be read, with `device` written as well. The server neither opens
 * nor closes the disk, and does not touch it before a client has chosen the export.
 */
export type Export = {
  /** At most 4096 bytes of UTF-8; the empty name is the export that clients get who name none. */
  readonly name: string;
  /** For people. */
  readonly description?: string;
  /** What clients may ask about ranges. Not given: `base:allocation` and `qemu:allocation-depth`. */
  readonly contexts?: readonly MetaContext[];
  /**
   * The smallest block and the longest payload for clients who ask for block sizes; others may read and write any
   * range as if there were none. Not given: 1 byte, 32 MiB.
   */
  readonly blockSizes?: { readonly minimum?: number; readonly maximumPayload?: number };
} & (
  | { readonly source: BlockSource; readonly device?: undefined }
  | { readonly device: BlockDevice; readonly source?: undefined }
);

/** An export as the sessions use it. */
export interface ServedExport {
  readonly name: string;
  readonly description: string | undefined;
  readonly source: BlockSource;
  /** Undefined: read-only. */
  readonly device: BlockDevice | undefined;
  /** By the identifier they have on the wire. */
  readonly contexts: ReadonlyMap<number, MetaContext>;
  readonly sizes: BlockSizes;
}

/** @throws {RangeError} for a name or sizes that the protocol cannot carry */
export function servedExport(offered: Export): ServedExport {
  if (Buffer.byteLength(offered.name) > 4096 || offered.name.includes('\0')) {
    throw new RangeError('an export name is at most 4096 bytes, without NUL');
  }
  const source = offered.device ?? offered.source;
  return {
    name: offered.name,
    description: offered.description,
    source,
    device: offered.device,
    contexts: contextIds(offered.contexts ?? [baseAllocation(source), allocationDepth(source)]),
    sizes: sizesOf(offered, source.size),
  };
}

function sizesOf({ blockSizes, device }: Export, size: number): BlockSizes {
  const { minimum = 1, maximumPayload = maxPayload } = blockSizes ?? {};
  const isPower = Number.isInteger(Math.log2(minimum)) && minimum >= 1 && minimum <= largestMinimum;
  if (!isPower || size % minimum !== 0) {
    throw new RangeError(`blocks of ${minimum} bytes do not make a disk of ${size}`);
  }
  // The size at which writes need no read first, if the protocol can say it.
  const preferred = Math.min(Math.max(device?.caps.blockSize ?? 0, minimum, 4096), maximumPayload);
  if (maximumPayload > maxPayload || maximumPayload < Math.max(minimum, 512)) {
    throw new RangeError(`payloads of ${maximumPayload} bytes cannot be served`);
  }
  return { minimum, preferred: 2 ** Math.floor(Math.log2(preferred)), maximumPayload };
}

/** What holds for clients who have not promised to obey the sizes. Spec: "Size constraints" */
export function lenientSizes({ preferred }: BlockSizes): BlockSizes {
  return { minimum: 1, preferred, maximumPayload: maxPayload };
}

/** What was agreed on in the handshake, as far as the flags depend on it. */
export interface FlagOptions {
  /** Replies come in chunks. */
  readonly chunks: boolean;
  /** A block status may ask for some contexts only. */
  readonly statusPayload: boolean;
  /** Several clients at a time are allowed. */
  readonly multiple: boolean;
}

/** The transmission flags of an export. All connections share one disk, so a flush on one covers all. */
export function transmissionFlags(served: ServedExport, options: FlagOptions): number {
  const access = served.device
    ? TransmissionFlag.sendTrim | TransmissionFlag.sendWriteZeroes | TransmissionFlag.sendFastZero
    : TransmissionFlag.readOnly;
  return (
    TransmissionFlag.hasFlags |
    TransmissionFlag.sendFlush |
    TransmissionFlag.sendFua |
    TransmissionFlag.sendCache |
    access |
    (options.chunks ? TransmissionFlag.sendDf : 0) |
    (options.statusPayload ? TransmissionFlag.blockStatusPayload : 0) |
    (options.multiple ? TransmissionFlag.canMultiConn : 0)
  );
}
