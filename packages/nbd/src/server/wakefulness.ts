/**
 * Keeps the event loop from going to sleep for a moment after traffic.
 *
 * With one request at a time nearly all of the time goes into falling asleep and being woken. Looking again
 * at once for some 50 microseconds costs processor time only while there is traffic, and answers such
 * clients twice as fast. Where the next request regularly comes later than that, it would only burn, so
 * vain attempts are counted and soon only every 64th batch is tried.
 */

/** How long to look before going to sleep. */
const awakeMs = 0.05;
/** With more requests in a batch the client does not wait for single answers. */
const fewRequests = 8;
const bestScore = 16;
/** Of batches that are tried although attempts have been in vain. */
const retryEvery = 64;

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
  #until = 0;
  #awake = false;
  #score = bestScore;
  #batches = 0;
  #served = false;

  constructor(loop: Loop = realLoop) {
    this.#loop = loop;
  }

  /** A batch of `requests` has been answered, and `running` more are under way. */
  served(requests: number, running: number): void {
    this.#served = true;
    if (requests > fewRequests || running > 0) return;
    if (this.#score <= 0 && ++this.#batches % retryEvery !== 0) return;
    this.#until = this.#loop.now() + awakeMs;
    if (this.#awake) return;
    this.#awake = true;
    this.#served = false;
    this.#loop.nextTurn(this.#look);
  }

  readonly #look = (): void => {
    if (this.#served) {
      this.#served = false;
      this.#score = Math.min(bestScore, this.#score + 1);
    }
    if (this.#loop.now() < this.#until) {
      this.#loop.nextTurn(this.#look);
      return;
    }
    this.#awake = false;
    this.#score = Math.max(0, this.#score - 2);
  };
}
