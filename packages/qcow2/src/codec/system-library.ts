/**
 * Libraries of the system, called through koffi: at once, or in the thread pool.
 *
 * The program `node` offers symbols of zlib and zstd to everything in its process, and a library's calls into
 * itself go to them first: parts of two versions would then work on one context and write past its end. So
 * libraries are loaded with their own symbols first. Only glibc can do that, and elsewhere there are none.
 *
 * Spec: Linux man-pages, dlopen(3), RTLD_DEEPBIND.
 */
import { availableParallelism } from 'node:os';
import { inThreadPool } from './codec.ts';

type Values = readonly unknown[];

/** A function whose result is a number. The caller's buffers live as long as the call. */
export interface NativeCall {
  now(...values: Values): number;
  /** In the thread pool. */
  inTurn(...values: Values): Promise<number>;
}

/** A loaded library. Types are as C spells them. */
export interface SystemLibrary {
  /** @throws {Error} if there is no such function */
  function(name: string, result: string, parameters: readonly string[]): NativeCall;
  /** A function without parameters that makes a context. @throws {Error} if there is no such function */
  maker(name: string): () => unknown;
}

/** The library of that name; undefined where there is none, or none that is safe to call. */
export async function loadSystemLibrary(name: string): Promise<SystemLibrary | undefined> {
  if (process.platform !== 'linux') return undefined;
  try {
    const koffi = await import('koffi');
    // Throws where the C library is another one.
    koffi.load(null).func('gnu_get_libc_version', 'str', []);
    const library = koffi.load(name, { deep: true });
    return {
      function: (symbol, result, parameters) => {
        const now = library.func(symbol, result, [...parameters]);
        const later = now.async as (...values: unknown[]) => void;
        const start = (values: Values): Promise<number> =>
          new Promise((resolve, reject) => {
            later(...values, (error: unknown, answer: number) => {
              if (error) reject(error);
              else resolve(answer);
            });
          });
        return { now, inTurn: (...values) => inThreadPool(() => start(values)) };
      },
      maker: (symbol) => library.func(symbol, 'void *', []),
    };
  } catch {
    return undefined;
  }
}

/** What takes longer would hold up everything else. */
const LONGEST_HERE = 256 * 1024;
/**
 * The event loop decodes its share, one for each processor: the way to a thread takes as long as decoding half a
 * cluster, and the threads have what was decoded to write.
 */
const SHARE = availableParallelism();

let decoded = 0;

/** Whether it is the event loop's turn to decode something that holds so many bytes. */
export function isTurnOfEventLoop(length: number): boolean {
  return length <= LONGEST_HERE && ++decoded % SHARE === 0;
}
