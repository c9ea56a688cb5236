/** The command as a program: this process's words, streams and end. */
import { endProcess } from '@strata/block';
import { main } from './cli.ts';
import { processTerminal } from './terminal.ts';
import { sizeThreadPool } from './threads.ts';

/** Runs the command line that this process was started with, and ends the process. */
export async function runProgram(): Promise<never> {
  const status = await main(process.argv.slice(2), processTerminal, sizeThreadPool);
  // What was printed has been taken: the terminal writes synchronously.
  return await endProcess(status, []);
}
