/** The program `img`, unbundled. */
import { runProgram } from './program.ts';

void runProgram();
