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
  #idle: (() => void) | undefined;

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
    if (--this.#running === 0) this.#idle?.();
  }

  /** Refuses new calls at once, waits for those that run, then runs `close`. Later calls wait for the same end. */
  end(close: () => Promise<void>): Promise<void> {
    this.#ended ??= this.#end(close);
    return this.#ended;
  }

  async #end(close: () => Promise<void>): Promise<void> {
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await close();
  }
}
