/**
 * Whether a server has taken changes that no flush has covered: if it is lost, they may be lost with it.
 *
 * Spec: proto.md, "Request types", NBD_CMD_FLUSH
 */
import { DiskError } from '@strata/block';

/** Counts changes that were answered, and flushes that came after them. */
export class Unflushed {
  #changes = 0;
  #flushed = 0;

  /** True if a change was answered and not flushed since. */
  get any(): boolean {
    return this.#changes > this.#flushed;
  }

  /** A change was answered. */
  changed(): void {
    this.#changes++;
  }

  /** A flush begins; what is returned is called when it has succeeded. */
  flushing(): () => void {
    const covered = this.#changes;
    return () => {
      this.#flushed = Math.max(this.#flushed, covered);
    };
  }
}

/** What a caller is told who must not believe that its changes are safe. @param lost why the connection ended */
export function changesLost(lost: DiskError): DiskError {
  const message = `writes that were not flushed may be lost with the connection: ${lost.message}`;
  return new DiskError('io', message, { op: 'flush', cause: lost });
}
