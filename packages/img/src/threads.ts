/**
 * How many threads Node's pool has for a command.
 *
 * The pool reads and writes files, compresses and decompresses. It starts when it is first used, and has four threads
 * whatever the machine has, if nobody says otherwise before that.
 *
 * Writes to one file exclude each other in the kernel, and a thread that waits there takes a processor from those who
 * work. A copy is fastest when the event loop reads, looks for zeros and decodes on one processor, and the threads
 * write and decode on the others.
 */
import { availableParallelism } from 'node:os';

/**
 * - `serving`: many requests at once, which wait for disks. - `copying`: what the event loop has read is written.
 * - `compressing`: the work is in the threads.
 */
export type ThreadUse = 'serving' | 'copying' | 'compressing';

const fewest = { serving: 4, compressing: 4, copying: 1 } as const satisfies Record<ThreadUse, number>;

/** Sets the size of the pool, which must not have been used; who started the process may have set it already. */
export function sizeThreadPool(use: ThreadUse): void {
  const processors = availableParallelism();
  const wanted = use === 'copying' ? processors - 1 : processors;
  process.env['UV_THREADPOOL_SIZE'] ??= String(Math.max(fewest[use], wanted));
}
