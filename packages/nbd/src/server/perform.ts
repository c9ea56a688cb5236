/**
 * The requests that change a disk or make it work, without bytes in the reply.
 *
 * Spec: proto.md, "Request types" and "Ordering of messages and writes"
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BlockDevice, BlockSource } from '@strata/block';
import { Command, CommandFlag } from '../protocol/numbers.ts';
import type { RequestHeader } from '../protocol/request.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { ServedExport } from './export.ts';
import { isZeros } from './read-layout.ts';

/** Bytes that CACHE reads at a time. */
const cacheStep = 256 * 1024;

/** What a request may need beside the disk. */
export interface PerformOptions {
  readonly pool: BufferPool;
  /** False: nobody waits for the answer any more. */
  wanted(): boolean;
}

/**
 * Carries out a request that has been judged valid; resolves when it may be answered, and rejects with what
 * the disk rejects with.
 * @param payload of a WRITE
 */
export function perform(
  request: RequestHeader,
  served: ServedExport,
  payload: Buffer | undefined,
  options: PerformOptions,
): Promise<void> {
  const { device } = served;
  if (request.command === Command.cache) return readThrough(served.source, request, options);
  // A read-only export has nothing to flush.
  if (device === undefined) return Promise.resolve();
  if (request.command === Command.flush) return device.flush();
  const changed = change(request, device, payload);
  return (request.flags & CommandFlag.fua) === 0 ? changed : changed.then(() => device.flush());
}

function change(
  { command, flags, offset, length }: RequestHeader,
  device: BlockDevice,
  payload: Buffer | undefined,
): Promise<void> {
  if (length === 0) return Promise.resolve();
  if (payload !== undefined) return device.write(payload, offset);
  if (command === Command.trim) return device.discard(offset, length);
  return device.zero(offset, length, {
    allocate: (flags & CommandFlag.noHole) !== 0,
    fast: (flags & CommandFlag.fastZero) !== 0,
  });
}

/**
 * CACHE: reads the data of a range and forgets it, so that whatever caches there are below hold it. A disk
 * that never waits would keep everybody else from having a turn, so turns are given.
 */
async function readThrough(
  source: BlockSource,
  { offset, length }: RequestHeader,
  { pool, wanted }: PerformOptions,
): Promise<void> {
  const scratch = pool.take(cacheStep);
  try {
    for (let at = offset; at < offset + length && wanted(); ) {
      const limit = Math.min(cacheStep, offset + length - at);
      const extent = source.tryExtentAt(at, limit) ?? (await source.extentAt(at, limit));
      if (!isZeros(extent)) await source.read(scratch.subarray(0, extent.length), at);
      at += extent.length;
      await nextTurn();
    }
  } finally {
    pool.give(scratch);
  }
}
