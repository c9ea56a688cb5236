/**
 * The jobs of the thread pool that encode and decode.
 *
 * The pool serves files as well, and takes its work in order: it is never handed more than a few jobs, so that
 * reads and writes do not wait behind a hundred of them.
 */
import { availableParallelism } from 'node:os';

/** Enough to keep the pool's threads busy while what is done waits for the event loop. */
const MOST_STARTED = 2 * Math.max(4, availableParallelism());

/** Hands a job to the pool, and calls `ended` when it has come back. */
type StartJob = (ended: () => void) => void;

let started = 0;
const waiting: StartJob[] = [];

/** Starts a job when its turn has come: at once, if there are few. */
function inTurn(start: StartJob): void {
  if (started === MOST_STARTED) {
    waiting.push(start);
  } else {
    started++;
    start(ended);
  }
}

function ended(): void {
  const next = waiting.shift();
  if (next) next(ended);
  else started--;
}

/** A job as a promise: `start` hands it over, and calls back with what came of it. */
export function inThreadPool<T>(start: (done: (error: unknown, result: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    inTurn((ended) => {
      const fail = (error: unknown): void => {
        ended();
        reject(error);
      };
      try {
        start((error, result) => {
          if (error) return fail(error);
          ended();
          resolve(result);
        });
      } catch (error) {
        fail(error);
      }
    });
  });
}
