/**
 * Which clients are served at once, which wait for a place, and which are turned away.
 *
 * There are so many places for all and, over TCP, so many of them for one address, so that one machine cannot keep the
 * others out; the queue is shared in the same way. Addresses of IPv6 count together as far as one machine usually
 * has them: by their first 64 bits. Clients on unix sockets have no address.
 */
import type { Socket } from 'node:net';

/** How many there may be. */
export interface Places {
  /** Clients that are served at a time. */
  readonly all: number;
  /** Of them, those of one address. */
  readonly perAddress: number;
  /** Clients that wait. */
  readonly waiting: number;
  /** Of them, those of one address. */
  readonly waitingPerAddress: number;
}

/** A client, and the address that it counts for. */
interface Client {
  readonly socket: Socket;
  readonly network: string | undefined;
}

/** Lets clients in. */
export class Admission {
  readonly #places: Places;
  readonly #serve: (socket: Socket, leave: () => void) => void;
  readonly #served = new Set<Client>();
  readonly #waiting = new Set<Client>();

  /** @param serve is given each client when its turn has come, and calls `leave` once when the place is free again */
  constructor(places: Places, serve: (socket: Socket, leave: () => void) => void) {
    this.#places = places;
    this.#serve = serve;
  }

  /** A client has connected: it is served, waits, or is cut off. */
  arrived(socket: Socket): void {
    const client = { socket, network: networkOf(socket.remoteAddress) };
    if (this.#hasPlace(client)) this.#admit(client);
    else if (this.#mayWait(client)) this.#waiting.add(client);
    else socket.destroy();
  }

  /** True while somebody waits. */
  get isCrowded(): boolean {
    return this.#waiting.size > 0;
  }

  /** Nobody is let in any more, and who waits is cut off. */
  close(): void {
    for (const { socket } of this.#waiting) socket.destroy();
    this.#waiting.clear();
  }

  #hasPlace({ network }: Client): boolean {
    const { all, perAddress } = this.#places;
    return this.#served.size < all && hasShare(this.#served, network, perAddress);
  }

  #mayWait({ network }: Client): boolean {
    const { waiting, waitingPerAddress } = this.#places;
    return this.#waiting.size < waiting && hasShare(this.#waiting, network, waitingPerAddress);
  }

  #admit(client: Client): void {
    this.#served.add(client);
    this.#serve(client.socket, () => {
      this.#served.delete(client);
      this.#admitNext();
    });
  }

  #admitNext(): void {
    for (const client of this.#waiting) {
      if (!this.#hasPlace(client)) continue;
      this.#waiting.delete(client);
      this.#admit(client);
      return;
    }
  }
}

function hasShare(clients: ReadonlySet<Client>, network: string | undefined, most: number): boolean {
  if (network === undefined || clients.size < most) return true;
  let count = 0;
  for (const client of clients) if (client.network === network) count++;
  return count < most;
}

/** What an address of IPv4 or IPv6 counts as. Undefined: there is none. */
export function networkOf(address: string | undefined): string | undefined {
  if (address === undefined) return undefined;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(':')) return mapped ?? address;
  const [front = '', back] = address.split('%', 1).join('').split('::');
  const groups = front.split(':').filter((group) => group !== '');
  const following = (back ?? '').split(':').filter((group) => group !== '');
  if (back !== undefined)
    groups.push(...Array<string>(8 - groups.length - following.length).fill('0'), ...following);
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}
