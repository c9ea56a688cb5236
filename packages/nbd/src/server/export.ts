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

/** @throws {RangeError} for a name that the protocol cannot carry */
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
    sizes: { minimum: 1, preferred: preferredSize(offered.device), maximumPayload: maxPayload },
  };
}

/** The size at which writes need no read first, if the protocol can say it. */
function preferredSize(device: BlockDevice | undefined): number {
  return Math.min(Math.max(device?.caps.blockSize ?? 0, 4096), maxPayload);
}

/** What was agreed on in the handshake, as far as the flags depend on it. */
export interface FlagOptions {
  readonly structured: boolean;
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
    (options.structured ? TransmissionFlag.sendDf : 0) |
    (options.multiple ? TransmissionFlag.canMultiConn : 0)
  );
}
