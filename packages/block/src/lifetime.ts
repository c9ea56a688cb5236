/**
 * How long a device lives: calls in flight are counted, closing waits for them, later calls fail.
 *
 * Kept by every device that is the end of the line, and by the gate in front of all others.
 */
import { DiskError } from './errors.ts';

/** Counts what is running and ends once. */
export class Lifetime {
  #running = 0;
  #ended: Promise<void> | undefined;
  /** Who waits until no more than `most` run. */
  #waiting: readonly { readonly most: number; readonly resume: () => void }[] = [];
  #pause: Promise<void> | undefined;

  /** Undefined: go on. Otherwise somebody wants to be alone; who could disturb waits for this, and asks again. */
  get pause(): Promise<void> | undefined {
    return this.#pause;
  }

  /** @throws {DiskError} closed */
  check(): void {
    if (this.#ended !== undefined) throw new DiskError('closed', 'the disk is closed');
  }

  /** Counts a call; every `enter` is followed by one `leave`. @throws {DiskError} closed */
  enter(): void {
    this.check();
    this.#running++;
  }

  /** The call has settled. */
  leave(): void {
    this.#running--;
    if (this.#waiting.length > 0) this.#resume();
  }

  /**
   * Runs `work`, counted, once all calls that are counted have left; for as long there is a `pause`. One at a time.
   *
   * @throws {DiskError} closed
   */
  async alone(work: () => Promise<void>): Promise<void> {
    while (this.#pause !== undefined) await this.#pause;
    this.enter();
    let end = (): void => undefined;
    this.#pause = new Promise((resolve) => {
      end = resolve;
    });
    try {
      await this.#quiet(1);
      await work();
    } finally {
      this.#pause = undefined;
      this.leave();
      end();
    }
  }

  /** Refuses new calls at once, waits for those that run, then runs `close`. Later calls wait for the same end. */
  end(close: () => Promise<void>): Promise<void> {
    this.#ended ??= this.#end(close);
    return this.#ended;
  }

  async #end(close: () => Promise<void>): Promise<void> {
    await this.#quiet(0);
    await close();
  }

  async #quiet(most: number): Promise<void> {
    while (this.#running > most) {
      await new Promise<void>((resume) => {
        this.#waiting = [...this.#waiting, { most, resume }];
      });
    }
  }

  #resume(): void {
    const waiting = this.#waiting;
    this.#waiting = waiting.filter(({ most }) => this.#running > most);
    for (const { most, resume } of waiting) if (this.#running <= most) resume();
  }
}
