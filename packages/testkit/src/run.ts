/** Runs other programs: to their end, or as servers that a test starts and stops. */
import { type ChildProcess, spawn } from 'node:child_process';
import { connect } from 'node:net';

/** How a program ended. */
export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end and returns what it printed, whatever its exit status. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: 'C', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, stdout, stderr }));
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
  });
}

/** What `run` may be told. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Standard input. */
  readonly input?: string;
}

/** Runs a program that must succeed, and returns its standard output. */
export async function runOk(command: string, args: readonly string[], options?: RunOptions): Promise<string> {
  const finished = await run(command, args, options);
  if (finished.status !== 0) {
    throw new Error(
      `${command} ${args.join(' ')} ended with ${finished.status}: ${finished.stderr}${finished.stdout}`,
    );
  }
  return finished.stdout;
}

/** A server that a test started. */
export interface Server extends AsyncDisposable {
  readonly process: ChildProcess;
  /** All it has printed to standard error so far. */
  stderr(): string;
  /** Sends SIGTERM and waits for the end. */
  stop(): Promise<number | null>;
}

/**
 * Starts a server and waits until `ready` says that it can be used: `ready` is called again and again,
 * and the server's early end rejects.
 */
export async function serve(
  command: string,
  args: readonly string[],
  ready: () => boolean | Promise<boolean>,
): Promise<Server> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  ended.catch(() => undefined);
  const stop = async (): Promise<number | null> => {
    child.kill('SIGTERM');
    // qemu-nbd forgets a signal that comes between its listening and its main loop.
    const again = setInterval(() => child.kill('SIGTERM'), 200);
    return ended.finally(() => clearInterval(again));
  };
  const deadline = Date.now() + 30_000;
  while (!(await ready())) {
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`${command} ${args.join(' ')} did not become ready: ${stderr}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return {
    process: child,
    stderr: () => stderr,
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

/** True if something takes connections on a unix socket. That the socket exists is not enough: it is bound before. */
export function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.on('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', () => resolve(false));
  });
}
