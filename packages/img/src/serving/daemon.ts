/**
 * `--fork`: the server as a process of its own, in the background, while the one that was started ends when it is up.
 *
 * Node cannot fork. The command is started anew in a session of its own, and told so by a variable; it reports over
 * a channel when clients may connect. Until then what it complains of comes out here. Afterwards nobody hears it: a log
 * belongs into a file.
 */
import { spawn } from 'node:child_process';
import { unlinkSync, writeFileSync } from 'node:fs';
import { CommandError } from '../report.ts';
import type { Terminal } from '../terminal.ts';

/** Set for the process in the background. */
const mark = 'IMG_SERVE_IN_BACKGROUND';

/** True in the process in the background. */
export function isInBackground(): boolean {
  return process.env[mark] === String(process.ppid) && process.connected;
}

/** Starts this same command line in the background. Resolves to the exit status when it is up or has failed. */
export async function forkServer(terminal: Terminal, readyFd: number | undefined): Promise<number> {
  const inherited = readyFd !== undefined && readyFd > 2 ? readyFd : undefined;
  const between = Array.from({ length: Math.max(0, (inherited ?? 0) - 3) }, () => 'ignore' as const);
  const stdio = [
    'ignore',
    'ignore',
    'pipe',
    ...between,
    ...(inherited === undefined ? [] : [inherited]),
    'ipc',
  ] as const;
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    detached: true,
    stdio: [...stdio],
    env: { ...process.env, [mark]: String(process.pid) },
  });
  child.stderr?.on('data', (text: Buffer) => terminal.warn(text.toString()));
  return await new Promise<number>((resolve, reject) => {
    child.on('error', (error) =>
      reject(new CommandError(`Could not fork: ${error.message}`, { cause: error })),
    );
    child.on('message', (text) => {
      terminal.print(String(text));
      resolve(0);
    });
    child.on('close', (status) => resolve(status ?? 1));
  });
}

/** Tells the process that waits in front that clients may connect, and lets it go. */
export async function reportReady(text: string): Promise<void> {
  await new Promise<void>((resolve) => process.send?.(text, () => resolve()));
  process.disconnect();
}

/** A terminal that nobody sees: writing to what the process in front has left behind would fail. */
export const unseenTerminal: Terminal = { print: () => undefined, warn: () => undefined, live: false };

/** Writes this process's number. Disposing of it removes the file. @throws {CommandError} */
export function writePidFile(path: string): Disposable {
  try {
    writeFileSync(path, `${process.pid}\n`);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason =
      code === 'ENOENT' ? 'No such file or directory' : code === 'EACCES' ? 'Permission denied' : message;
    throw new CommandError(`Could not create '${path}': ${reason}`, { cause: error });
  }
  return {
    [Symbol.dispose]: () => {
      try {
        unlinkSync(path);
      } catch {
        // Whoever removed it first has done what was to be done.
      }
    },
  };
}
