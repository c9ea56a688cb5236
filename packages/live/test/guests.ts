/** Guests that write all the time, and know what the disk must hold at every moment. */
import { type BlockDevice, RangeLock } from '@strata/block';
import { anyRange, assertSameBytes, type Random, randomFrom } from '@strata/testkit';

/** What guests did to a disk. */
export class Guests {
  /** What it holds, but for what is being written. */
  readonly bytes: Uint8Array;
  readonly #device: BlockDevice;
  readonly #random: Random;
  /** Two guests never write one byte at a time: else nobody knew which came last. */
  readonly #lock = new RangeLock();
  #running: Promise<readonly PromiseSettledResult<void>[]> = Promise.resolve([]);
  #stopping = false;
  /** Tells of what they wait for between two calls: a job that must catch up with them. */
  resting: Promise<unknown> = Promise.resolve();
  /** How many calls they made. */
  calls = 0;

  constructor(device: BlockDevice, bytes: Uint8Array, seed: number) {
    this.#device = device;
    this.bytes = bytes;
    this.#random = randomFrom(seed);
  }

  /** Sets `count` guests to work. */
  start(count: number): void {
    this.#stopping = false;
    this.#running = Promise.allSettled(Array.from({ length: count }, () => this.#work()));
  }

  /** Waits until they have made so many calls more, or one has failed. */
  async working(calls: number): Promise<void> {
    const end = this.calls + calls;
    while (this.calls < end && !this.#stopping) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Waits for all, and fails as the first that failed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const each of await this.#running) if (each.status === 'rejected') throw each.reason;
  }

  async #work(): Promise<void> {
    try {
      while (!this.#stopping) {
        await this.resting;
        await this.#call();
      }
    } finally {
      this.#stopping = true;
    }
  }

  async #call(): Promise<void> {
    this.calls++;
    const random = this.#random;
    const { offset, length } = anyRange(random, this.#device.size);
    const kind = random.upTo(9);
    const data = random.bytes(length);
    await this.#lock.run(offset, length, async () => {
      if (kind < 5) {
        await this.#device.write(data, offset);
        this.bytes.set(data, offset);
      } else if (kind === 5) {
        await this.#device.zero(offset, length);
        this.bytes.fill(0, offset, offset + length);
      } else if (kind === 6) {
        // What it reads as then is the disk's choice.
        await this.#device.discard(offset, length);
        await this.#device.write(data, offset);
        this.bytes.set(data, offset);
      } else if (kind === 7) {
        await this.#device.flush();
      } else {
        const found = new Uint8Array(length);
        if (!this.#device.tryRead(found, offset)) await this.#device.read(found, offset);
        assertSameBytes(found, this.bytes.subarray(offset, offset + length), `${length} at ${offset}`);
      }
    });
  }
}
