/** The program `img`: the command on this process's words and streams. */
import { main } from './cli.ts';
import { processTerminal } from './terminal.ts';

// `main` never rejects.
void main(process.argv.slice(2), processTerminal).then((status) => {
  process.exitCode = status;
});
