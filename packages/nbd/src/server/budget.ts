/**
 * How much memory requests may hold in buffers of their own, in all connections together.
 *
 * Each connection may hold some without asking, so clients who hog the budget slow down only large
 * requests of others.
 */

/** Someone who waits for room. */
export type Waiter = () => void;

/** Counts bytes up to a limit. */
export class Budget {
  readonly #limit: number;
  #taken = 0;
  #waiters = new Set<Waiter>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes `bytes` if there is room. What is more than the whole limit is given to who is alone. */
  tryTake(bytes: number): boolean {
    if (this.#taken > 0 && this.#taken + bytes > this.#limit) return false;
    this.#taken += bytes;
    return true;
  }

  /** Gives back what was taken, and wakes all who wait. */
  give(bytes: number): void {
    this.#taken -= bytes;
    if (this.#waiters.size === 0) return;
    const waiters = this.#waiters;
    this.#waiters = new Set();
    for (const wake of waiters) wake();
  }

  /** Calls `wake` once, when something has been given back. Waiting twice is waiting once. */
  wait(wake: Waiter): void {
    this.#waiters.add(wake);
  }

  /** Waits no longer. */
  forget(wake: Waiter): void {
    this.#waiters.delete(wake);
  }

  /** True while someone waits. */
  get wanted(): boolean {
    return this.#waiters.size > 0;
  }
}

/** What one connection holds: up to an allowance freely, and from there on out of the budget. */
export class Account {
  readonly #budget: Budget;
  readonly #allowance: number;
  #held = 0;

  constructor(budget: Budget, allowance: number) {
    this.#budget = budget;
    this.#allowance = allowance;
  }

  /** Bytes taken out of the budget. */
  get owed(): number {
    return Math.max(0, this.#held - this.#allowance);
  }

  /** Takes `bytes`, or calls `wake` when it is worth to try again. */
  tryTake(bytes: number, wake: Waiter): boolean {
    const owed = this.owed;
    this.#held += bytes;
    if (this.owed === owed || this.#budget.tryTake(this.owed - owed)) return true;
    this.#held -= bytes;
    this.#budget.wait(wake);
    return false;
  }

  give(bytes: number): void {
    const owed = this.owed;
    this.#held -= bytes;
    if (this.owed < owed) this.#budget.give(owed - this.owed);
  }
}
