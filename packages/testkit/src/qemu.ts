/** Typed drivers for QEMU's tools, so that a test states a fact in three lines. */
import { accepts, type Finished, run, type Server, serve } from './run.ts';

/** A line of `qemu-img map --output=json`. */
export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

/** The report of `qemu-img check --output=json`; what is 0 is absent. */
export interface CheckReport {
  readonly 'check-errors': number;
  readonly corruptions?: number;
  readonly leaks?: number;
  readonly 'image-end-offset'?: number;
  readonly 'total-clusters'?: number;
  readonly 'allocated-clusters'?: number;
  readonly 'fragmented-clusters'?: number;
  readonly 'compressed-clusters'?: number;
}

const mostTries = 50;

/** Where processor time is counted badly, qemu-img cannot measure how fast it derives keys, and gives up at times. */
async function runQemuImg(args: readonly string[]): Promise<Finished> {
  for (let tries = 1; ; tries++) {
    const finished = await run('qemu-img', args);
    if (tries === mostTries || !finished.stderr.includes('Unable to get accurate CPU usage')) return finished;
  }
}

async function qemuImgOk(args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await runQemuImg(args);
  if (status === 0) return stdout;
  throw new Error(`qemu-img ${args.join(' ')} ended with ${status}: ${stderr}${stdout}`);
}

/** `qemu-img`. */
export const qemuImg = {
  /** Any command, whatever its exit status. */
  run: (...args: readonly string[]): Promise<Finished> => runQemuImg(args),
  /** Any command that must succeed; its standard output. */
  ok: (...args: readonly string[]): Promise<string> => qemuImgOk(args),
  /** A new image. `options` are `-o` options. */
  create: (path: string, size: number | string | undefined, options: CreateOptions = {}): Promise<string> => {
    const args = ['create', '-q', '-f', options.format ?? 'qcow2'];
    if (options.backing) args.push('-b', options.backing.name, '-F', options.backing.format);
    const extra = Object.entries(options.options ?? {}).map(([name, value]) => `${name}=${value}`);
    if (extra.length > 0) args.push('-o', extra.join(','));
    return qemuImgOk([...args, path, ...(size === undefined ? [] : [String(size)])]);
  },
  /** The text of `map --output=json`. */
  mapText: (path: string, format = 'qcow2'): Promise<string> =>
    qemuImgOk(['map', '-f', format, '--output=json', path]),
  map: async (path: string, format = 'qcow2'): Promise<readonly MapEntry[]> =>
    JSON.parse(await qemuImg.mapText(path, format)) as readonly MapEntry[],
  /** Status and report; it does not reject on damage. */
  check: async (path: string): Promise<{ status: number | null; report: CheckReport; stderr: string }> => {
    const { status, stdout, stderr } = await runQemuImg(['check', '-f', 'qcow2', '--output=json', path]);
    return { status, stderr, report: JSON.parse(stdout || '{}') as CheckReport };
  },
  /** Rejects unless both images read the same. */
  compare: (a: string, formatA: string, b: string, formatB: string): Promise<string> =>
    qemuImgOk(['compare', '-f', formatA, '-F', formatB, a, b]),
};

/** What `qemuImg.create` may be told. */
export interface CreateOptions {
  readonly format?: string;
  readonly backing?: { readonly name: string; readonly format: string };
  readonly options?: Readonly<Record<string, string | number>>;
}

/** Runs `qemu-io` commands on an image, all of which must succeed. */
export async function qemuIo(path: string, commands: readonly string[], format = 'qcow2'): Promise<string> {
  const args = ['-f', format, ...commands.flatMap((command) => ['-c', command]), path];
  const { status, stdout, stderr } = await run('qemu-io', args);
  if (status !== 0 || /failed|error|No such/i.test(stdout + stderr)) {
    throw new Error(`qemu-io ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`);
  }
  return stdout;
}

/** Serves an image with `qemu-nbd` on a unix socket until it is disposed of. */
export function qemuNbd(
  path: string,
  socket: string,
  args: readonly string[] = ['-f', 'qcow2'],
): Promise<Server> {
  return serve('qemu-nbd', ['-k', socket, '-t', '-e', '0', ...args, path], () => accepts(socket));
}
