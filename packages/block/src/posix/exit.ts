/**
 * Ending a command once all of its work is done.
 *
 * When a program has run out of work, Node waits for V8's compiler threads, and one of those may be waiting for
 * Node to collect garbage: then the process stands for ever (nodejs/node#54918, seen with Node 20 after one copy in
 * some hundreds). What is written to files and pipes is in the kernel by then, so nothing is lost by not waiting.
 */
import { loadedLibc } from './libc.ts';

/**
 * Ends the process with `status` after `streams` have been taken. Handlers of `exit` do not run. Everything that
 * is to survive must have been closed.
 *
 * @param streams standard output and error if not given; a program that writes to their descriptors itself names
 *   none, because making the streams takes time
 */
export async function endProcess(
  status: number,
  streams: readonly NodeJS.WriteStream[] = [process.stdout, process.stderr],
): Promise<never> {
  await Promise.all(streams.map(drained));
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
