/** The command as a program: this process's words, streams and end. */
import { availableParallelism } from 'node:os';
import { endProcess } from '@strata/block';
import { main } from './cli.ts';
import { processTerminal } from './terminal.ts';

/** Runs the command line that this process was started with, and ends the process. */
export async function runProgram(): Promise<never> {
  // Node's thread pool compresses, and has four threads whatever the machine has. It starts when it is first used.
  process.env['UV_THREADPOOL_SIZE'] ??= String(Math.max(4, availableParallelism()));
  const status = await main(process.argv.slice(2), processTerminal);
  // What was printed has been taken: the terminal writes synchronously.
  return await endProcess(status, []);
}
