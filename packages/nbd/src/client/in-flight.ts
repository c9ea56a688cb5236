/**
 * The requests whose answers have not come, by cookie.
 *
 * The low half of a cookie is a slot, the high half counts requests, so that a late second reply to an answered
 * request is not taken for a reply to the one that has its slot now.
 */
import { Command } from '../protocol/numbers.ts';
import type { PendingRequest } from './request.ts';

/** Reads from which it is worth a system call more a reply to copy none of their bytes. */
const largeRead = 256 * 1024;

const isLargeRead = ({ parts }: PendingRequest): boolean =>
  parts.command === Command.read && parts.length >= largeRead;

/** At most `capacity` requests. */
export class InFlight {
  readonly #slots: (PendingRequest | undefined)[];
  readonly #free: number[];
  #sequence = 0;
  #largeReads = 0;

  constructor(capacity: number) {
    this.#slots = new Array<PendingRequest | undefined>(capacity).fill(undefined);
    this.#free = Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
  }

  get count(): number {
    return this.#slots.length - this.#free.length;
  }

  /** How many more there is room for. */
  get room(): number {
    return this.#free.length;
  }

  /** True if there are requests, and all are large reads. */
  get onlyLargeReads(): boolean {
    return this.#largeReads > 0 && this.#largeReads === this.count;
  }

  /** Gives the request its cookie. There must be room. */
  add(request: PendingRequest): void {
    const slot = this.#free.pop() as number;
    this.#slots[slot] = request;
    this.#sequence = (this.#sequence + 1) >>> 0;
    request.cookieHigh = this.#sequence;
    request.cookieLow = slot;
    if (isLargeRead(request)) this.#largeReads++;
  }

  find(cookieHigh: number, cookieLow: number): PendingRequest | undefined {
    const request = this.#slots[cookieLow];
    return request?.cookieHigh === cookieHigh ? request : undefined;
  }

  remove(request: PendingRequest): void {
    this.#slots[request.cookieLow] = undefined;
    this.#free.push(request.cookieLow);
    if (isLargeRead(request)) this.#largeReads--;
  }

  /** Takes all of them out. */
  clear(): readonly PendingRequest[] {
    const all = this.#slots.filter((request) => request !== undefined);
    for (const request of all) this.remove(request);
    return all;
  }
}
