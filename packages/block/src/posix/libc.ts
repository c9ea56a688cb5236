/**
 * The C library's calls that node:fs does not offer: lseek, fallocate, fcntl, preadv2, posix_fadvise,
 * sendfile, cachestat.
 *
 * Called through koffi, on 64-bit little-endian Linux; elsewhere there is no `Libc` and whoever wants one
 * does without. koffi takes some milliseconds to load, so it is loaded when the first file needs it.
 *
 * errno: after a synchronous call it is read before anything else can run. For an asynchronous call koffi
 * (3.2 and later) keeps the errno of the thread that made it and puts it back for the duration of the
 * callback, so it is right there and nowhere later.
 */
import { constants } from 'node:os';
import { errnoError } from '../errno.ts';
import { DiskError } from '../errors.ts';

/** Calls that exist on this host. Results are as in C: -1 is a failure, and `errno()` then tells which. */
export interface Libc {
  /** The errno of the call that was just made. */
  errno(): number;
  /** Where the bytes of `buffer` lie, for arguments of type address; valid as long as the buffer lives. */
  address(buffer: ArrayBufferLike): number;
  lseek(fd: number, offset: number, whence: number): number;
  fcntl(fd: number, command: number, address: number): number;
  /** Undefined where the C library is too old. */
  readonly preadv2:
    | ((fd: number, vectors: number, count: number, offset: number, flags: number) => number)
    | undefined;
  /** Tells what will be done with a range of a file. The result is 0 or the errno. */
  posix_fadvise(fd: number, offset: number, length: number, advice: number): number;
  sendfile(to: number, from: number, offsetAddress: number, length: number): number;
  /** Has no function of its own in C libraries yet; older kernels do not have it either. */
  cachestat(fd: number, rangeAddress: number, resultAddress: number): number;
  /** Ends the process at once. */
  exit(status: number): void;
  /** Copies between files, on a thread of its own. Resolves to how many bytes it was, or to the negative errno. */
  copyFileRange(fromFd: number, fromAt: number, toFd: number, toAt: number, length: number): Promise<number>;
  /** Runs on a thread of its own. Resolves to 0 or to the errno. */
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<number>;
}

const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'riscv64', 'loong64'];

let loading: Promise<Libc | undefined> | undefined;
let loaded: Libc | undefined;

/**
 * The C library; undefined on hosts where these calls are not known to be alike.
 *
 * @throws {DiskError} not-supported where they should be there and koffi cannot be loaded
 */
export function loadLibc(): Promise<Libc | undefined> {
  loading ??= load();
  return loading;
}

/** The C library, if somebody has loaded it. */
export function loadedLibc(): Libc | undefined {
  return loaded;
}

async function load(): Promise<Libc | undefined> {
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) return undefined;
  try {
    loaded = bind(await import('koffi'));
    return loaded;
  } catch (cause) {
    throw new DiskError('not-supported', 'the package koffi, which calls the C library, cannot be loaded', {
      cause,
    });
  }
}

type KoffiFunction = ReturnType<import('koffi').LibraryHandle['func']>;

function bind(koffi: typeof import('koffi')): Libc {
  const library = koffi.load(null);
  const optional = (name: string, result: string, args: string[]) => {
    try {
      return library.func(name, result, args);
    } catch {
      return undefined;
    }
  };
  const fallocate = library.func('fallocate', 'int', ['int', 'int', 'int64', 'int64']);
  // Bound when somebody first needs them, because most commands never do.
  const syscall = lazily(() =>
    library.func('syscall', 'int64', ['int64', 'int', 'uintptr_t', 'uintptr_t', 'uint']),
  );
  const sendfile = lazily(() => library.func('sendfile', 'int64', ['int', 'int', 'uintptr_t', 'size_t']));
  const copyFileRange = lazily(() =>
    optional('copy_file_range', 'int64', ['int', 'void *', 'int', 'void *', 'size_t', 'uint']),
  );
  const inTurn = turns(MOST_CALLS);
  /** The result of a call, or the negative errno. */
  const called = (call: KoffiFunction, ...values: unknown[]): Promise<number> =>
    inTurn(
      () =>
        new Promise((resolve, reject) => {
          call.async(...values, (error: unknown, result: number) => {
            if (error) reject(error);
            else resolve(result < 0 ? -koffi.errno() : result);
          });
        }),
    );
  return {
    errno: () => koffi.errno(),
    address: (buffer) => Number(koffi.address(new Uint8Array(buffer))),
    lseek: library.func('lseek', 'int64', ['int', 'int64', 'int']),
    // The variadic argument of fcntl travels like a named one in the calling conventions of these hosts.
    fcntl: library.func('fcntl', 'int', ['int', 'int', 'uintptr_t']),
    posix_fadvise: library.func('posix_fadvise', 'int', ['int', 'int64', 'int64', 'int']),
    sendfile: (to, from, offset, length) => sendfile()(to, from, offset, length),
    // So do those of syscall.
    cachestat: (fd, range, result) => syscall()(CACHESTAT, fd, range, result, 0),
    exit: library.func('_exit', 'void', ['int']),
    preadv2: optional('preadv2', 'int64', ['int', 'uintptr_t', 'int', 'int64', 'int']),
    copyFileRange: async (fromFd, fromAt, toFd, toAt, length) => {
      const call = copyFileRange();
      if (call === undefined) return -constants.errno.ENOSYS;
      return called(call, fromFd, int64(fromAt), toFd, int64(toAt), length, 0);
    },
    fallocate: async (fd, mode, offset, length) =>
      Math.abs(await called(fallocate, fd, mode, offset, length)),
  };
}

/** What `make` gives, made when it is first asked for. */
function lazily<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** New system calls have one number on all architectures. */
const CACHESTAT = 451;

/** A number in memory that stays where it is while a call runs. */
function int64(value: number): BigInt64Array {
  const memory = new BigInt64Array(new ArrayBuffer(8));
  memory[0] = BigInt(value);
  return memory;
}

/** koffi throws when more calls than its limit (256) are queued; so many at once gain nothing anyway. */
const MOST_CALLS = 32;

/** Lets at most `most` of the calls it is given run at once; the rest wait in order. */
function turns(most: number): <T>(call: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (call) => {
    if (running === most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await call();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}

/** The failure of the call that was just made. */
export function libcError(libc: Libc, op: string, context: { readonly path?: string } = {}): DiskError {
  return errnoError(libc.errno(), { ...context, op });
}
