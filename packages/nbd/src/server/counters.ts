/** What clients have asked for: plain numbers that are cheap to count, for logs and figures. */
import { Command } from '../protocol/numbers.ts';
import type { RequestHeader } from '../protocol/request.ts';

/** What each request is called in figures, at the index of its number. */
const names: readonly (string | undefined)[] = (() => {
  const table: (string | undefined)[] = [];
  for (const [name, number] of Object.entries(Command)) table[number] = name;
  return table;
})();

/** Requests and bytes of one client, or of several together. */
export class Counters {
  /** Requests that were carried out or are, by their number. */
  readonly #requests = new Float64Array(names.length);
  /** Requests that were answered with an error. */
  failed = 0;
  /** Bytes of READ requests. */
  read = 0;
  /** Bytes of WRITE requests. */
  written = 0;

  /** Counts a request that was judged valid. */
  count({ command, length }: RequestHeader): void {
    this.#requests[command] = (this.#requests[command] ?? 0) + 1;
    if (command === Command.read) this.read += length;
    else if (command === Command.write) this.written += length;
  }

  add(other: Counters): void {
    for (const [command, count] of other.#requests.entries()) {
      this.#requests[command] = (this.#requests[command] ?? 0) + count;
    }
    this.failed += other.failed;
    this.read += other.read;
    this.written += other.written;
  }

  /** How many of each kind, by the names of the specification in lower case. */
  requests(): Readonly<Record<string, number>> {
    const counted: Record<string, number> = {};
    for (const [command, count] of this.#requests.entries()) {
      const name = names[command];
      if (name !== undefined && command !== Command.disconnect) counted[name] = count;
    }
    return counted;
  }
}
