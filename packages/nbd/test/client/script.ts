/** A server made of literal bytes: what the client sends goes in, what the test wrote comes out. */
import { DiskError } from '@strata/block';
import type { Negotiation } from '../../src/client/negotiation.ts';

/** Bytes from hexadecimal digits; spaces are for the reader. */
export const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

/** `number` in `bytes` bytes, big-endian, as hexadecimal digits. */
export const be = (number: number | bigint, bytes: number): string =>
  BigInt(number)
    .toString(16)
    .padStart(2 * bytes, '0');

/** The digits of `text` in UTF-8. */
export const utf8 = (text: string): string => Buffer.from(text, 'utf8').toString('hex');

/** A newstyle greeting: `NBDMAGIC`, `IHAVEOPT`, flags. */
export const greeting = (flags: number): Buffer => hex(`4e42444d41474943 49484156454f5054 ${be(flags, 2)}`);

/** An option reply. */
export const reply = (option: number, type: number, data = ''): Buffer =>
  hex(`0003e889045565a9 ${be(option, 4)} ${be(type, 4)} ${be(hex(data).length, 4)} ${data}`);

/** How a negotiation went. */
export interface Conversation<T> {
  readonly result: T;
  /** Everything the client sent, message by message. */
  readonly sent: readonly Buffer[];
}

/**
 * Runs a negotiation against `server`, which is called with an empty message at first and then with each that the
 * client sends, and answers with bytes. Where these run out, the connection ends.
 */
export function converse<T>(
  negotiation: Negotiation<T>,
  server: (message: Buffer) => Buffer,
): Conversation<T> {
  const sent: Buffer[] = [];
  let incoming = server(Buffer.alloc(0));
  let step = negotiation.next();
  while (!step.done) {
    if ('secure' in step.value) {
      sent.push(Buffer.from('TLS'));
      step = negotiation.next(Buffer.alloc(0));
      continue;
    }
    const { send, take } = step.value;
    if (send !== undefined && send.length > 0) {
      sent.push(Buffer.from(send));
      incoming = Buffer.concat([incoming, server(Buffer.from(send))]);
    }
    if (take > incoming.length) {
      step = negotiation.throw(new DiskError('closed', 'the server closed the connection'));
      continue;
    }
    const message = Buffer.from(incoming.subarray(0, take));
    incoming = incoming.subarray(take);
    step = negotiation.next(message);
  }
  return { result: step.value, sent };
}

/** Most servers do not have them. */
const extendedHeaders = 11;
const unsupported = 0x8000_0001;

/** A server that greets with `flags` and answers options by their number; to others it has nothing to say. */
export function server(
  flags: number,
  answers: Readonly<Record<number, Buffer>>,
): (message: Buffer) => Buffer {
  return (message) => {
    if (message.length === 0) return greeting(flags);
    if (message.length === 4) return Buffer.alloc(0);
    const option = message.readUInt32BE(8);
    return answers[option] ?? (option === extendedHeaders ? reply(option, unsupported) : Buffer.alloc(0));
  };
}
