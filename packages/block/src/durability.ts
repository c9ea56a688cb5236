/**
 * Flushing one file: calls that wait together are served together, and a failure is for ever.
 *
 * At most one fdatasync runs and one more waits; the one that waits starts after the running one and so
 * covers every write that had resolved when it was asked for. After a failure the kernel marks the pages
 * clean that it could not write, so a second fdatasync would succeed without the data: every later flush
 * fails until the file is opened anew.
 */
import { DiskError, isDiskError } from './errors.ts';

/** A `flush` over `sync`, which makes durable all that was written before it began. */
export function coalescedFlush(sync: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  let waiting: Promise<void> | undefined;
  let failure: unknown;

  const start = (): Promise<void> => {
    waiting = undefined;
    running = (async () => {
      if (failure !== undefined) throw lost(failure);
      try {
        await sync();
      } catch (error) {
        failure = error;
        throw error;
      } finally {
        running = undefined;
      }
    })();
    return running;
  };
  return () => {
    if (running === undefined) return start();
    waiting ??= running.then(start, start);
    return waiting;
  };
}

function lost(cause: unknown): DiskError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `an earlier flush failed (${reason}): what was written before it may be lost`;
  return new DiskError('io', message, { ...(isDiskError(cause) && cause.context), cause });
}
