/**
 * An export of an NBD server as a disk.
 *
 * Read-only exports give a `BlockSource` and no device: there is nothing to write with. Several writes may be in
 * flight; those that overlap go one after the other, because a server may take its requests in any order.
 */
import {
  type BlockDevice,
  type BlockSource,
  type Capabilities,
  checkedDevice,
  checkedSource,
  checkRange,
  DiskError,
  type Extent,
  RangeLock,
  withContext,
  type ZeroOptions,
} from '@strata/block';
import { CommandFlag, TransmissionFlag } from '../protocol/numbers.ts';
import type { BlockSizes } from '../protocol/options.ts';
import { Allocation, allocationContext, depthContext, mostStatus } from './allocation.ts';
import { Connections } from './connections.ts';
import type { Negotiated } from './handshake.ts';
import type { ConnectOptions } from './negotiation.ts';
import { Reconnecting, type ReconnectOptions } from './reconnect.ts';
import type { ContextRun } from './status.ts';
import { Transfer } from './transfer.ts';
import { changesLost, Unflushed } from './unflushed.ts';
import { formatNbdUri, type NbdTarget, parseNbdUri } from './uri.ts';
import { loadTls } from './uri-tls.ts';

/** How to open an export. */
export interface OpenNbdOptions extends ConnectOptions {
  /** Metadata contexts beside `base:allocation` and `qemu:allocation-depth`, by their full names. */
  readonly contexts?: readonly string[] | undefined;
  /** Connections to spread requests over, if the server lets one client have several; 1 if not given. */
  readonly connections?: number | undefined;
  /**
   * How long to try to connect anew when a connection is lost, in milliseconds; requests wait meanwhile and are sent
   * again. 0 if not given: not at all. Writes that were answered and not flushed before the loss may be lost with the
   * server: then nothing can be written or flushed any more, and closing rejects with `io`.
   */
  readonly reconnectDelayMs?: number | undefined;
}

/** What the server told of an export. Texts are the server's: untrusted. */
export interface NbdInfo {
  readonly size: number;
  readonly isReadOnly: boolean;
  /** Of `TransmissionFlag`. */
  readonly flags: number;
  readonly structuredReplies: boolean;
  readonly extendedHeaders: boolean;
  /** Undefined if the server did not say; then any offset and up to 32 MiB are taken. */
  readonly blockSizes: BlockSizes | undefined;
  /** The server's own name for the export, where it told one. */
  readonly canonicalName: string | undefined;
  readonly description: string | undefined;
  /** The metadata contexts that can be asked for. */
  readonly contexts: readonly string[];
}

/** An open export. Disposing of it says farewell to the server; disposing of `source` or `device` does the same. */
export interface NbdConnection extends AsyncDisposable {
  readonly info: NbdInfo;
  readonly source: BlockSource;
  /** The same disk for writing; undefined if the export is read-only. */
  readonly device: BlockDevice | undefined;
  /**
   * One run of a metadata context: from `offset`, 1 to `limit` bytes.
   * @throws {DiskError} not-found if the server does not have the context, and as a read
   */
  contextAt(name: string, offset: number, limit: number): Promise<ContextRun>;
}

/**
 * Connects to a server and opens an export.
 *
 * @param target a URI as `parseNbdUri` takes it, or its parts
 * @throws {DiskError} invalid, not-supported for the URI; not-found, denied, io, closed if the server cannot be
 *   reached or does not have the export; limit, protocol; aborted
 */
export async function openNbd(
  target: string | NbdTarget,
  options: OpenNbdOptions = {},
): Promise<NbdConnection> {
  const parts = typeof target === 'string' ? parseNbdUri(target) : target;
  const path = typeof target === 'string' ? target : formatNbdUri(parts);
  const contexts = [...new Set([allocationContext, depthContext, ...(options.contexts ?? [])])];
  try {
    const most = options.connections ?? 1;
    const tls = options.tls ?? (parts.tls && loadTls(parts.tls));
    const all = { ...options, tls, contexts, path, most };
    const delayMs = options.reconnectDelayMs ?? parts.reconnectDelayMs ?? 0;
    const first = await Connections.open(parts, all);
    const open = (signal: AbortSignal) => Connections.open(parts, { ...all, signal });
    return connection(new NbdDisk(first, delayMs > 0 ? { delayMs, open } : undefined));
  } catch (error) {
    throw withContext(error, { path });
  }
}

function connection(disk: NbdDisk): NbdConnection {
  const info = infoOf(disk.negotiated);
  const device = info.isReadOnly ? undefined : checkedDevice(disk);
  const source = device ?? checkedSource(disk);
  return {
    info,
    source,
    device,
    contextAt: async (name, offset, limit) => {
      checkRange(offset, 1, info.size);
      return disk.contextAt(name, offset, Math.min(limit, info.size - offset));
    },
    [Symbol.asyncDispose]: () => {
      disk.giveUp();
      return source[Symbol.asyncDispose]();
    },
  };
}

function infoOf(negotiated: Negotiated): NbdInfo {
  const { size, flags, style, blockSizes, name, description, contexts } = negotiated;
  return Object.freeze({
    size,
    isReadOnly: (flags & TransmissionFlag.readOnly) !== 0,
    flags,
    structuredReplies: style !== 'simple',
    extendedHeaders: style === 'extended',
    blockSizes,
    canonicalName: name,
    description,
    contexts: contexts.map((context) => context.name),
  });
}

/** The disk behind the gate. */
class NbdDisk implements BlockDevice {
  readonly size: number;
  readonly caps: Capabilities;
  readonly negotiated: Negotiated;
  readonly #connections: Connections | Reconnecting;
  /** Of connections that are not made anew; others keep count themselves. */
  readonly #plain: Unflushed | undefined;
  readonly #transfer: Transfer;
  readonly #allocation: Allocation;
  readonly #lock = new RangeLock();
  readonly #flags: number;

  constructor(first: Connections, again: Pick<ReconnectOptions, 'delayMs' | 'open'> | undefined) {
    const { negotiated } = first;
    const renewed = (): void => this.#allocation.changed();
    const connections = again ? new Reconnecting(first, { ...again, renewed }) : first;
    this.#plain = again ? undefined : new Unflushed();
    this.negotiated = negotiated;
    this.#connections = connections;
    this.#transfer = new Transfer(connections, negotiated);
    this.#flags = negotiated.flags;
    this.size = negotiated.size;
    const minimumBlock = this.#transfer.minimumBlock;
    this.#allocation = new Allocation({
      size: this.size,
      minimumBlock,
      contexts: negotiated.contexts,
      mostAtOnce: mostStatus[negotiated.style === 'extended' ? 'extended' : 'compact'],
      ask: (offset, length, contextIds) => connections.next().status(offset, length, contextIds),
    });
    this.caps = {
      blockSize: minimumBlock,
      zero: this.#offers(TransmissionFlag.sendWriteZeroes) ? 'native' : 'emulated',
      discard: this.#offers(TransmissionFlag.sendTrim) ? 'native' : 'ignored',
    };
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    return this.#transfer.read(into, offset);
  }

  tryRead(): boolean {
    return false;
  }

  extentAt(offset: number, limit: number): Promise<Extent> {
    return this.#allocation.extentAt(offset, limit);
  }

  tryExtentAt(offset: number, limit: number): Extent | undefined {
    return this.#allocation.tryExtentAt(offset, limit);
  }

  contextAt(name: string, offset: number, limit: number): Promise<ContextRun> {
    return this.#allocation.contextAt(name, offset, limit);
  }

  write(from: Uint8Array, offset: number): Promise<void> {
    return this.#change(offset, from.length, () => this.#transfer.write(from, offset));
  }

  async zero(offset: number, length: number, how: ZeroOptions = {}): Promise<void> {
    const canBeFast = this.#offers(TransmissionFlag.sendFastZero) && this.#isPreferred(offset, length);
    if (how.fast && !canBeFast) throw new DiskError('not-supported', 'the server cannot zero this fast');
    const flags = (how.allocate ? CommandFlag.noHole : 0) | (how.fast ? CommandFlag.fastZero : 0);
    await this.#change(offset, length, () =>
      this.#offers(TransmissionFlag.sendWriteZeroes)
        ? this.#transfer.zero(offset, length, flags)
        : this.#transfer.writeZeros(offset, length),
    );
  }

  async discard(offset: number, length: number): Promise<void> {
    if (!this.#offers(TransmissionFlag.sendTrim)) return;
    await this.#change(offset, length, () => this.#transfer.trim(offset, length));
  }

  async flush(): Promise<void> {
    const flushed = this.#plain?.flushing();
    await this.#transfer.flush();
    if (this.#offers(TransmissionFlag.sendFlush)) flushed?.();
  }

  /** Nothing waits any longer for a connection that was lost. */
  giveUp(): void {
    if (this.#connections instanceof Reconnecting) this.#connections.giveUp();
  }

  /** A server that was lost with unflushed changes must not look like one that was left. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { lost } = this.#connections;
    await this.#connections.close();
    if (lost !== undefined && this.#plain?.any) throw changesLost(lost);
  }

  /** Runs a change when none before it is under way in the blocks that it touches. */
  #change(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    const start = this.#transfer.floor(offset);
    return this.#lock.run(start, this.#transfer.ceiling(offset + length) - start, async () => {
      this.#allocation.changed();
      try {
        await work();
        this.#plain?.changed();
      } finally {
        this.#allocation.changed();
      }
    });
  }

  #offers(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  /**
   * True for whole blocks of the preferred size. A server may zero the middle of a range before it finds that
   * an end inside a block cannot be done fast, and a refusal must have changed nothing.
   */
  #isPreferred(offset: number, length: number): boolean {
    const end = offset + length;
    const { preferredBlock } = this.#transfer;
    return offset % preferredBlock === 0 && (end % preferredBlock === 0 || end === this.size);
  }
}
