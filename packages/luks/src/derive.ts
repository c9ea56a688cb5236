/**
 * Keys from passphrases, and the hashes and random bytes around them.
 *
 * Deriving runs in the thread pool. How many iterations a new key takes is measured: as many as this machine
 * does in the time that was asked for. Of wall-clock and processor time the smaller one counts, since a busy
 * machine would make weak keys by the first, and a busy process by the second.
 *
 * Spec: RFC 8018, "PBKDF2".
 */
import { DiskError } from '@strata/block';
import { type HashName, hashBytes } from './algorithms.ts';

/** Loading it takes as long as a small command. */
const crypto = () => process.getBuiltinModule('node:crypto');

/** The longest that Node accepts. */
const MOST_ITERATIONS = 2 ** 31 - 1;
/** How long a measurement must take to be believed, in microseconds. */
const MEASURED = 100_000;
/** Some hosts count processor time in large steps or badly: it is believed down to this part of the time that passed. */
const MOST_IDLE = 4;

/** What to derive a key with. */
export interface Derivation {
  readonly hash: HashName;
  readonly salt: Uint8Array;
  readonly iterations: number;
  /** Bytes of the key. */
  readonly length: number;
}

/** The key that `secret` gives. The caller zeroes it after use. @throws {DiskError} limit */
export function deriveKey(
  secret: Uint8Array,
  { hash, salt, iterations, length }: Derivation,
): Promise<Buffer> {
  if (iterations > MOST_ITERATIONS)
    throw new DiskError('limit', `${iterations} iterations of PBKDF2 are more than 2^31 - 1`);
  return new Promise((resolve, reject) => {
    crypto().pbkdf2(secret, salt, iterations, length, hash, (error, key) => {
      if (error === null) resolve(key);
      else reject(new DiskError('not-supported', `PBKDF2 with ${hash} failed`, { cause: error }));
    });
  });
}

/** Iterations of one block a second, by hash, as measured. */
const rates = new Map<HashName, Promise<number>>();

/** How many iterations of a key of `length` bytes this machine does in `milliseconds`. */
export async function countIterations(hash: HashName, length: number, milliseconds: number): Promise<number> {
  let rate = rates.get(hash);
  if (rate === undefined) {
    rate = measureRate(hash);
    rates.set(hash, rate);
  }
  // Every part of the key as long as a hash takes all iterations anew.
  const blocks = Math.ceil(length / hashBytes(hash));
  return Math.floor(((await rate) * milliseconds) / 1000 / blocks);
}

async function measureRate(hash: HashName): Promise<number> {
  const secret = Buffer.from('measured');
  const salt = new Uint8Array(32);
  for (let iterations = 4096; ; ) {
    const start = process.hrtime.bigint();
    const startCpu = process.cpuUsage();
    await deriveKey(secret, { hash, salt, iterations, length: hashBytes(hash) });
    const wall = Number(process.hrtime.bigint() - start) / 1000;
    const { user, system } = process.cpuUsage(startCpu);
    if (wall >= MEASURED) {
      const spent = Math.max(Math.min(wall, user + system), wall / MOST_IDLE);
      return (iterations * 1_000_000) / spent;
    }
    iterations = Math.ceil(iterations * Math.min(8, (1.25 * MEASURED) / wall));
  }
}

/** The hash of `bytes`, in memory of its own. */
export function digest(hash: HashName, bytes: Uint8Array): Uint8Array {
  const made = crypto().createHash(hash).update(bytes).digest();
  if (made.length !== hashBytes(hash)) throw new RangeError(`${hash} made ${made.length} bytes`);
  return made;
}

/** Fills `bytes` with random ones that nobody can guess. */
export function randomFill(bytes: Uint8Array): void {
  crypto().randomFillSync(bytes);
}

/** A random UUID in its usual spelling. */
export function newUuid(): string {
  return crypto().randomUUID();
}

/** True if the bytes are the same; it takes as long if they are not. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return crypto().timingSafeEqual(a, b);
}
