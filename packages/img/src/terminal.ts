/**
 * Where a command prints: standard output, standard error, and whether a person watches.
 *
 * Writing is synchronous, so that nothing printed is lost when the process ends and lines of the two
 * streams keep their order. `process.stdout` is left alone: building it costs more than a small answer.
 */
import { writeSync } from 'node:fs';

/** Standard output and standard error of one run of the command. */
export interface Terminal {
  /** Writes `text` as it is to standard output. */
  print(text: string): void;
  /** Writes `text` as it is to standard error. */
  warn(text: string): void;
  /** True if standard output is a terminal: progress may then move about. */
  readonly live: boolean;
}

const retryMs = 2;

/** The terminal of this process. A reader that went away ends the process, as SIGPIPE would. */
export const processTerminal: Terminal = {
  print: (text) => writeAll(1, text),
  warn: (text) => writeAll(2, text),
  get live() {
    // Importing it would load the network's modules with it, for every command.
    return process.getBuiltinModule('node:tty').isatty(1);
  },
};

function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(descriptor, bytes, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') process.exit(1);
      if (code !== 'EAGAIN') throw error;
      // The other end made the pipe non-blocking and is slower than we are.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, retryMs);
    }
  }
}
