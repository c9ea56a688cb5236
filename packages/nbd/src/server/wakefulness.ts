/**
 * Keeps the event loop from going to sleep for a moment after traffic, where that pays.
 *
 * With one request at a time nearly all of the time goes into falling asleep and being woken, and a loop
 * that looks again at once for some 50 microseconds answers such clients twice as fast. On a busy machine it
 * takes the processor away from those clients instead, and clients who think for longer are not answered any
 * sooner. So both ways are measured: short windows of traffic are served one way or the other, and the
 * faster way is taken, sleeping if there is no great difference.
 */

/** How long to look before going to sleep. */
const awakeMs = 0.05;
/** With more requests at a time the client does not wait for single answers. */
const fewRequests = 8;
/** Requests that are timed together. */
const windowRequests = 64;
/** Of windows that are served the slower way, to see whether it still is. */
const otherWayEvery = 16;
/** A pause that ends a window, because it says nothing about either way. */
const pauseMs = 1;
/** Staying awake has to take less than this part of the time that sleeping takes. */
const worthwhile = 0.9;

/** Time and turns of the event loop; tests bring their own. */
export interface Loop {
  /** Milliseconds. */
  now(): number;
  /** Calls back in the next turn, which keeps the loop from sleeping. */
  nextTurn(callback: () => void): void;
}

const realLoop: Loop = { now: () => performance.now(), nextTurn: (callback) => setImmediate(callback) };

/** One for all connections of a server. */
export class Wakefulness {
  readonly #loop: Loop;
  /** Milliseconds a request, averaged over the windows of each way; undefined before the first. */
  #asleepMs: number | undefined;
  #awakeMs: number | undefined;
  #windows = 0;
  #staysAwake = false;
  #windowStart = 0;
  #windowRequests = 0;
  #last = Number.NEGATIVE_INFINITY;
  #until = 0;
  #looking = false;

  constructor(loop: Loop = realLoop) {
    this.#loop = loop;
  }

  /** A batch of `requests` has been answered, and `running` more are under way. */
  served(requests: number, running: number): void {
    if (requests + running > fewRequests) return;
    const now = this.#loop.now();
    if (now - this.#last > pauseMs) this.#begin(now, false);
    this.#last = now;
    this.#windowRequests += requests;
    if (this.#windowRequests >= windowRequests) this.#finish(now);
    if (!this.#staysAwake) return;
    this.#until = now + awakeMs;
    if (this.#looking) return;
    this.#looking = true;
    this.#loop.nextTurn(this.#look);
  }

  #begin(now: number, staysAwake: boolean): void {
    this.#windowStart = now;
    this.#windowRequests = 0;
    this.#staysAwake = staysAwake;
  }

  #finish(now: number): void {
    const each = (now - this.#windowStart) / this.#windowRequests;
    if (this.#staysAwake) this.#awakeMs = averaged(this.#awakeMs, each);
    else this.#asleepMs = averaged(this.#asleepMs, each);
    this.#begin(now, this.#nextWay());
  }

  #nextWay(): boolean {
    if (this.#asleepMs === undefined) return false;
    if (this.#awakeMs === undefined) return true;
    const awakeIsBetter = this.#awakeMs < worthwhile * this.#asleepMs;
    return ++this.#windows % otherWayEvery === 0 ? !awakeIsBetter : awakeIsBetter;
  }

  readonly #look = (): void => {
    if (this.#loop.now() < this.#until) this.#loop.nextTurn(this.#look);
    else this.#looking = false;
  };
}

function averaged(average: number | undefined, value: number): number {
  return average === undefined ? value : 0.75 * average + 0.25 * value;
}
