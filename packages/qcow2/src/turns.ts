/**
 * Work that overlaps, with a step in it that must come in the order in which the work began.
 *
 * Compressed writes encode side by side, but are given their places one after another: the same input then
 * makes the same file in every run.
 */

/** A place in the order. */
export interface Turn {
  /** Resolves when everybody before has passed on. */
  readonly ready: Promise<void>;
  /** Lets the next one go on; more than once is no harm. */
  pass(): void;
}

/** One order. */
export class Turns {
  #last: Promise<void> | undefined;

  /** The next place. Whoever takes it must pass on in the end, come what may. */
  take(): Turn {
    const ready = this.#last ?? Promise.resolve();
    const { promise, resolve } = deferred();
    const last = ready.then(() => promise);
    this.#last = last;
    last.then(() => {
      if (this.#last === last) this.#last = undefined;
    });
    return { ready, pass: resolve };
  }

  /** The next place if anybody is in the order: who comes alone need not wait. */
  join(): Turn | undefined {
    return this.#last === undefined ? undefined : this.take();
  }
}

function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
