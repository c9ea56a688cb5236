/** A disk in memory whose answers a test controls: what is slow, what fails, what waits. */
import type { BlockDevice, Extent, ExtentKind, ZeroOptions } from '@strata/block';
import { checkedDevice, DiskError } from '@strata/block';

/** The unit in which the disk keeps kinds and depths. */
const blockSize = 4096;

/** How a disk behaves. */
export interface TestDiskOptions {
  readonly size?: number;
  /** True: the try twins never answer. */
  readonly slow?: boolean;
}

/** A disk, and what a test may do to it behind the server's back. */
export interface TestDisk {
  readonly device: BlockDevice;
  readonly bytes: Buffer;
  /** The calls that reached the disk, by name and range. */
  readonly calls: string[];
  /** Sets what stands in whole blocks. */
  setKind(offset: number, length: number, kind: ExtentKind, depth?: number): void;
  /** The next operations of this name reject with `error`, until it is given undefined. */
  fail(op: string, error: Error | undefined): void;
  /** From now on reads that touch the range reject with `ioError`, and never answer at once. */
  spoil(offset: number, length: number): void;
  /** Operations of this name wait until the returned function is called. */
  hold(op: string): () => void;
}

/** A disk whose blocks are holes until they are written. */
export function testDisk(options: TestDiskOptions = {}): TestDisk {
  const size = options.size ?? 1024 * 1024;
  const bytes = Buffer.alloc(size);
  const blocks: { kind: ExtentKind; depth: number }[] = Array.from(
    { length: Math.ceil(size / blockSize) },
    () => ({ kind: 'hole', depth: 0 }),
  );
  const calls: string[] = [];
  const failures = new Map<string, Error>();
  const gates = new Map<string, Promise<void>>();
  const spoilt: { readonly offset: number; readonly length: number }[] = [];

  const setKind: TestDisk['setKind'] = (offset, length, kind, depth = kind === 'hole' ? 0 : 1) => {
    for (let index = Math.floor(offset / blockSize); index * blockSize < offset + length; index++) {
      blocks[index] = { kind, depth };
    }
  };
  const enter = async (op: string, range: string): Promise<void> => {
    calls.push(`${op} ${range}`.trim());
    await gates.get(op);
    const failure = failures.get(op);
    if (failure) throw failure;
  };
  const extent = (offset: number, limit: number): Extent => {
    const first = Math.floor(offset / blockSize);
    const { kind, depth } = blocks[first] as { kind: ExtentKind; depth: number };
    let index = first + 1;
    while (blocks[index]?.kind === kind && blocks[index]?.depth === depth) index++;
    return { offset, length: Math.min(limit, Math.min(index * blockSize, size) - offset), kind, depth };
  };
  const isSpoilt = (offset: number, length: number): boolean =>
    spoilt.some((bad) => offset < bad.offset + bad.length && bad.offset < offset + length);
  const isQuick = (op: string): boolean => !options.slow && !failures.has(op) && !gates.has(op);

  const device: BlockDevice = {
    size,
    caps: { blockSize, zero: 'native', discard: 'native' },
    read: async (into, offset) => {
      await enter('read', `${offset}+${into.length}`);
      if (isSpoilt(offset, into.length)) throw ioError;
      into.set(bytes.subarray(offset, offset + into.length));
    },
    tryRead: (into, offset) => {
      const isThere = isQuick('read') && !isSpoilt(offset, into.length);
      if (isThere) into.set(bytes.subarray(offset, offset + into.length));
      return isThere;
    },
    extentAt: async (offset, limit) => {
      await enter('extentAt', `${offset}`);
      return extent(offset, limit);
    },
    tryExtentAt: (offset, limit) => (isQuick('extentAt') ? extent(offset, limit) : undefined),
    write: async (from, offset) => {
      await enter('write', `${offset}+${from.length}`);
      bytes.set(from, offset);
      setKind(offset, from.length, 'data');
    },
    zero: async (offset, length, how: ZeroOptions = {}) => {
      await enter('zero', `${offset}+${length}${how.fast ? ' fast' : ''}${how.allocate ? ' allocate' : ''}`);
      bytes.fill(0, offset, offset + length);
      setKind(offset, length, how.allocate ? 'zero-allocated' : 'zero');
    },
    discard: (offset, length) => enter('discard', `${offset}+${length}`),
    flush: () => enter('flush', ''),
    [Symbol.asyncDispose]: async () => undefined,
  };
  return {
    device: checkedDevice(device),
    bytes,
    calls,
    setKind,
    fail: (op, error) => {
      if (error) failures.set(op, error);
      else failures.delete(op);
    },
    spoil: (offset, length) => void spoilt.push({ offset, length }),
    hold: (op) => {
      let open: () => void = () => undefined;
      gates.set(
        op,
        new Promise((resolve) => {
          open = resolve;
        }),
      );
      return () => {
        gates.delete(op);
        open();
      };
    },
  };
}

/** A failure of the host. */
export const ioError = new DiskError('io', 'the disk is broken');
