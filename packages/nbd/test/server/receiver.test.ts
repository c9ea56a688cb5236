import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BufferPool } from '../../src/server/buffer-pool.ts';
import { type ReceiveBlock, Receiver } from '../../src/server/receiver.ts';

const KiB = 1024;
/** Messages up to this length are parsed where they lie, as options and small writes are. */
const longestInPlace = 64 * KiB;

/** The bytes that a stream has from `at` on: each tells its own position. */
function stream(at: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let index = 0; index < length; index++)
    bytes[index] = ((at + index) * 167 + ((at + index) >> 8)) & 0xff;
  return bytes;
}

/** What happens to a connection: bytes arrive, a consumer stops and goes on, requests finish. */
type Event = { readonly arrive: number } | 'block' | 'unblock' | 'finish';

const message = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 5000 }) },
  { weight: 2, arbitrary: fc.integer({ min: 5000, max: longestInPlace }) },
  { weight: 2, arbitrary: fc.integer({ min: longestInPlace + 1, max: 700 * KiB }) },
);
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ arrive: fc.integer({ min: 1, max: 300 * KiB }) }) },
  { weight: 1, arbitrary: fc.constantFrom<Event>('block', 'unblock') },
  { weight: 2, arbitrary: fc.constant<Event>('finish') },
);

/**
 * Drives a receiver as a connection does: messages of the given lengths, cut as the events say. Each message
 * must be found whole and stay unchanged until it is released.
 */
class Model {
  readonly receiver = new Receiver(new BufferPool(64 * 1024 * KiB));
  readonly #lengths: number[];
  readonly #held: { block: ReceiveBlock; bytes: Buffer; at: number }[] = [];
  #space: Buffer;
  #arrived = 0;
  #parsed = 0;
  #collecting: Buffer | undefined;
  blocked = false;

  constructor(lengths: readonly number[]) {
    this.#lengths = [...lengths];
    this.#space = this.receiver.space(false);
  }

  /** Receiving is paused while the consumer is blocked. */
  arrive(length: number): void {
    if (this.blocked) return;
    const count = Math.min(length, this.#space.length);
    assert.ok(count > 0, 'there is always room');
    stream(this.#arrived, count).copy(this.#space);
    this.#arrived += count;
    this.receiver.received(count);
    this.parse();
    this.#space = this.receiver.space(this.blocked);
  }

  unblock(): void {
    if (!this.blocked) return;
    this.blocked = false;
    this.parse();
    this.receiver.settle();
  }

  finish(): void {
    const held = this.#held.shift();
    if (held === undefined) return;
    assert.deepEqual(held.bytes, stream(held.at, held.bytes.length));
    this.receiver.release(held.block);
  }

  parse(): void {
    const { receiver } = this;
    while (!this.blocked) {
      const length = this.#lengths[0] ?? 1000;
      if (this.#collecting) {
        if (!receiver.collected) return;
        receiver.endCollecting();
        assert.deepEqual(this.#collecting.subarray(0, length), stream(this.#parsed, length));
        this.#collecting = undefined;
      } else if (receiver.available >= length) {
        const bytes = receiver.bytes.subarray(receiver.at, receiver.at + length);
        this.#held.push({ block: receiver.hold(), bytes, at: this.#parsed });
        receiver.advance(length);
      } else if (length > longestInPlace) {
        this.#collecting = Buffer.alloc(length + 28);
        receiver.collect(this.#collecting, length);
        continue;
      } else {
        return;
      }
      this.#parsed += length;
      this.#lengths.shift();
    }
  }

  end(): void {
    this.unblock();
    while (this.#held.length > 0) this.finish();
    this.receiver.dispose();
    assert.equal(this.receiver.blocks, 0, 'all blocks go back');
  }
}

test('every message is found whole wherever the stream is cut, and stays as it is until it is released', () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 40 }),
      fc.array(event, { minLength: 20, maxLength: 120 }),
      (lengths, events) => {
        const model = new Model(lengths);
        for (const happens of events) {
          if (happens === 'block') model.blocked = true;
          else if (happens === 'unblock') model.unblock();
          else if (happens === 'finish') model.finish();
          else model.arrive(happens.arrive);
        }
        model.end();
      },
    ),
    { numRuns: 60 },
  );
});

test('a large payload is received without copying, together with the header behind it', () => {
  const receiver = new Receiver(new BufferPool(0));
  const into = Buffer.alloc(100_000 + 28);
  receiver.collect(into, 100_000);
  const space = receiver.space(false);
  assert.equal(space.buffer, into.buffer);
  assert.equal(space.length, 100_028);
  space.fill(7);
  receiver.received(100_010);
  assert.equal(receiver.collected, true);
  assert.equal(receiver.available, 10);
});
