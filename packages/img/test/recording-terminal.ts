/** A terminal that keeps what is printed, for tests that run a command in their own process. */
import type { Terminal } from '../src/terminal.ts';

/** What was printed so far. */
export interface RecordingTerminal extends Terminal {
  stdout(): string;
  stderr(): string;
}

/** A new one; nobody watches it. */
export function recordingTerminal(): RecordingTerminal {
  let stdout = '';
  let stderr = '';
  return {
    live: false,
    print: (text) => {
      stdout += text;
    },
    warn: (text) => {
      stderr += text;
    },
    stdout: () => stdout,
    stderr: () => stderr,
  };
}
