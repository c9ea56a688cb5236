/**
 * Ending a command once all of its work is done.
 *
 * When a program has run out of work, Node waits for V8's compiler threads, and one of those may be waiting for
 * Node to collect garbage: then the process stands for ever (nodejs/node#54918, seen with Node 20 after one copy in
 * some hundreds). What is written to files and pipes is in the kernel by then, so nothing is lost by not waiting.
 */
import { loadedLibc } from './libc.ts';

/**
 * Ends the process with `status` after standard output and error have been taken. Handlers of `exit` do not
 * run. Everything that is to survive must have been closed.
 */
export async function endProcess(status: number): Promise<never> {
  await Promise.all([drained(process.stdout), drained(process.stderr)]);
  loadedLibc()?.exit(status);
  process.exit(status);
}

function drained(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.writableLength === 0 || stream.destroyed) return resolve();
    stream.once('error', () => resolve());
    stream.write('', () => resolve());
  });
}
