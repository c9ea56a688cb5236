/** Builds one message of the handshake, field after field. */

/** Collects big-endian fields. Every method returns the writer. */
export class WireWriter {
  readonly #parts: Uint8Array[] = [];

  u16(value: number): this {
    const part = Buffer.allocUnsafe(2);
    part.writeUInt16BE(value);
    return this.bytes(part);
  }

  u32(value: number): this {
    const part = Buffer.allocUnsafe(4);
    part.writeUInt32BE(value);
    return this.bytes(part);
  }

  u64(value: bigint): this {
    const part = Buffer.allocUnsafe(8);
    part.writeBigUInt64BE(value);
    return this.bytes(part);
  }

  /** `bytes` is kept until `done`. */
  bytes(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    return this;
  }

  /** A string without its length. */
  text(text: string): this {
    return this.bytes(Buffer.from(text, 'utf8'));
  }

  /** A string behind its length of 32 bits. */
  lengthAndText(text: string): this {
    const bytes = Buffer.from(text, 'utf8');
    return this.u32(bytes.length).bytes(bytes);
  }

  /** The whole message, in a buffer of its own. */
  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
