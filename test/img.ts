/** The `img` command as users run it: the launcher that npm links. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Finished, run, runOk, type Server } from '@strata/testkit';

/** The launcher. */
const imgPath = fileURLToPath(new URL('../../packages/img/bin/img.js', import.meta.url));

/** `img`. */
export const img = {
  /** Any command, whatever its exit status. */
  run: (...args: readonly string[]): Promise<Finished> => run(process.execPath, [imgPath, ...args]),
  /** Any command that must succeed; its standard output. */
  ok: (...args: readonly string[]): Promise<string> => runOk(process.execPath, [imgPath, ...args]),
};

/** `img serve` on a unix socket. It is ready, and told its URI, when the promise resolves. */
export async function imgServe(
  socket: string,
  args: readonly string[],
): Promise<Server & { readonly uri: string }> {
  const child = spawn(process.execPath, [imgPath, 'serve', '-k', socket, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  const printed = new Promise<string>((resolve, reject) => {
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      const end = stdout.indexOf('\n');
      if (end >= 0) resolve(stdout.slice(0, end));
    });
    ended.then((status) => reject(new Error(`img serve ended with ${status}: ${stderr}`)), reject);
  });
  const uri = await printed;
  const stop = (): Promise<number | null> => {
    child.kill('SIGTERM');
    return ended;
  };
  return {
    process: child,
    uri,
    stderr: () => stderr,
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}
