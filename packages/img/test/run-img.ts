/** Runs the command as a program of its own: what only a process shows is its descriptors, signals and status. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../src/bin.js', import.meta.url));

/** A server started by `img serve`, ready for clients. */
export interface ServingImg extends AsyncDisposable {
  readonly process: ChildProcess;
  /** The lines that it wrote to the descriptor it was given. */
  readonly uris: readonly string[];
  /** Waits for the end. */
  ended(): Promise<{ readonly status: number | null; readonly stdout: string; readonly stderr: string }>;
}

/** Starts `img serve` with `words`, and waits until it says that it is ready, or rejects with what it complains of. */
export async function serveImg(...words: readonly string[]): Promise<ServingImg> {
  const child = spawn(process.execPath, [program, 'serve', '--ready-fd=3', ...words], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  const texts = { stdout: '', stderr: '', ready: '' };
  const collect = (name: keyof typeof texts, index: number) =>
    child.stdio[index]?.on('data', (data: Buffer) => {
      texts[name] += data.toString();
    });
  collect('stdout', 1);
  collect('stderr', 2);
  collect('ready', 3);
  const exit = once(child, 'close') as Promise<[number | null]>;
  const ended = async () => ({ status: (await exit)[0], stdout: texts.stdout, stderr: texts.stderr });
  await Promise.race([once(child.stdio[3] as NodeJS.ReadableStream, 'end'), exit]);
  if (texts.ready === '') throw new Error((await ended()).stderr);
  return {
    process: child,
    uris: texts.ready.trimEnd().split('\n'),
    ended,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGTERM');
      await exit;
    },
  };
}
