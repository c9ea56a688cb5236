/**
 * Libraries of the system, called through koffi: at once, or in the thread pool.
 *
 * The program `node` offers symbols of zlib and zstd to everything in its process, and a library's calls into
 * itself go to them first: parts of two versions would then work on one context and write past its end. So
 * libraries are loaded with their own symbols first. Only glibc can do that, and elsewhere there are none.
 *
 * Spec: Linux man-pages, dlopen(3), RTLD_DEEPBIND.
 */
import { inThreadPool } from './jobs.ts';

type Values = readonly unknown[];

/**
 * A function whose first parameter is a context that one call at a time may use. It is not among the `values`: each
 * call that runs has one, and they are used again. The caller's buffers live as long as the call.
 */
export interface ContextCall {
  now(...values: Values): number;
  /** In the thread pool. */
  inTurn(...values: Values): Promise<number>;
}

/** A loaded library. Types are as C spells them. */
export interface SystemLibrary {
  /**
   * @param maker the function without parameters that makes a context
   * @param parameters those behind the context
   * @throws {Error} if there is no such function
   */
  onContext(name: string, maker: string, result: string, parameters: readonly string[]): ContextCall;
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
      onContext: (name, maker, result, parameters) => {
        const call = library.func(name, result, ['void *', ...parameters]);
        const make = library.func(maker, 'void *', []);
        const free: unknown[] = [];
        const now = (...values: Values): number => {
          const context = free.pop() ?? make();
          const answer: number = call(context, ...values);
          free.push(context);
          return answer;
        };
        // A context is taken when the turn has come: more of them than run would only push each other out of the
        // processor's caches.
        const inTurn = (...values: Values): Promise<number> =>
          inThreadPool((done) => {
            const context = free.pop() ?? make();
            call.async(context, ...values, (error: Error | null, answer: number) => {
              free.push(context);
              done(error, answer);
            });
          });
        return { now, inTurn };
      },
    };
  } catch {
    return undefined;
  }
}
