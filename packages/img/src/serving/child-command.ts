/**
 * The command behind `--`: it runs while the server serves, and its exit status is the server's.
 *
 * It is started as it is, by no shell, with the variables that tell it where the exports are.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { printable } from '@strata/chain';
import { CommandError } from '../report.ts';
import type { StopSignals } from './stopping.ts';

/** Runs `words` to the end. A signal to stop is passed on. @throws {CommandError} 126 or 127, as a shell does */
export async function runCommand(
  words: readonly string[],
  variables: Readonly<Record<string, string>>,
  { first, second }: StopSignals,
): Promise<number> {
  const [name = '', ...rest] = words;
  const child = spawn(name, rest, { stdio: 'inherit', env: { ...process.env, ...variables } });
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', (error: NodeJS.ErrnoException) => reject(cannotRun(name, error)));
    child.on('exit', (status, signal) => resolve(status ?? 128 + (signal ? constants.signals[signal] : 0)));
  });
  for (const asked of [first, second]) void asked.then((signal) => child.kill(signal));
  return ended;
}

function cannotRun(name: string, error: NodeJS.ErrnoException): CommandError {
  const isMissing = error.code === 'ENOENT';
  const reason = isMissing
    ? 'No such file or directory'
    : error.code === 'EACCES'
      ? 'Permission denied'
      : error.message;
  return new CommandError(`Could not run '${printable(name)}': ${reason}`, {
    status: isMissing ? 127 : 126,
    cause: error,
  });
}
