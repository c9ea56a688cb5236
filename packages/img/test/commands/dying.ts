/**
 * Preloaded into a run of the command: kills the process, as a power failure of the machine would, before one of its
 * calls that make something durable or give it a name. Which one is in the variable DIE_AT; with none it says how many there were.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const dieAt = Number(process.env['DIE_AT'] ?? Number.POSITIVE_INFINITY);
let calls = 0;

function before(): void {
  if (++calls === dieAt) process.kill(process.pid, 'SIGKILL');
}

type Call = (...given: readonly unknown[]) => unknown;

function watch(owner: Record<string, unknown>, names: readonly string[]): void {
  for (const name of names) {
    const call = owner[name] as Call;
    owner[name] = function watched(this: unknown, ...given: readonly unknown[]) {
      before();
      return call.apply(this, [...given]);
    };
  }
}

watch(fs as unknown as Record<string, unknown>, ['fsync', 'fdatasync', 'ftruncate']);
const files = fs.promises as unknown as Record<string, unknown>;
watch(files, ['rename', 'rm', 'mkdir', 'open']);
syncBuiltinESMExports();
process.on('exit', () => {
  if (process.env['DIE_AT'] === undefined) fs.writeSync(2, `calls: ${calls}\n`);
});
