/**
 * A cursor over one received message that cannot leave it.
 *
 * For messages of the handshake, where lengths inside a message come from the peer. Requests and replies of
 * the transmission phase have fixed layouts and are read where they lie instead.
 */
import { DiskError } from '@strata/block';
import { maxStringLength } from '../protocol/numbers.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Reads big-endian fields one after the other. Everything throws DiskError `protocol` past the end. */
export class WireReader {
  readonly #bytes: Buffer;
  readonly #what: string;
  #at = 0;

  /** @param what names the message in errors */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  /** Bytes not read yet. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u16(): number {
    return this.#bytes.readUInt16BE(this.#take(2));
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }

  u64(): bigint {
    return this.#bytes.readBigUInt64BE(this.#take(8));
  }

  /** A view of the next `length` bytes, not a copy. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /**
   * The next `length` bytes as a string of the protocol.
   * @throws {DiskError} protocol also for what is too long, not UTF-8, or holds a NUL
   */
  string(length: number): string {
    if (length > maxStringLength) {
      throw this.error(`a string of ${length} bytes is longer than ${maxStringLength}`);
    }
    const bytes = this.bytes(length);
    if (bytes.includes(0)) throw this.error('a string contains a NUL byte');
    try {
      return utf8.decode(bytes);
    } catch (cause) {
      throw this.error('a string is not valid UTF-8', cause);
    }
  }

  /** @throws {DiskError} protocol unless all has been read */
  end(): void {
    if (this.left > 0) throw this.error(`${this.left} bytes too many`);
  }

  /** A `protocol` error about this message. */
  error(problem: string, cause?: unknown): DiskError {
    return new DiskError('protocol', `${this.#what}: ${problem}`, { cause });
  }

  #take(length: number): number {
    if (length > this.left) {
      throw this.error(`${length} bytes expected where ${this.left} are left`);
    }
    const at = this.#at;
    this.#at += length;
    return at;
  }
}
