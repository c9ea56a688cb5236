/**
 * A stream of bytes into JSON messages, one after the other, whatever stands between them.
 *
 * Messages need no separator: one ends when all that it opened is closed. A mistake is a message too, and the stream goes
 * on behind it; only what exceeds a limit ends the stream, because how much would follow cannot be known.
 *
 * A module of its own for those who read JSON as QEMU does, and speak with nobody.
 *
 * Spec: QEMU, "QEMU Machine Protocol Specification", "Protocol Specification"
 */
import { isObject, type Json } from './json.ts';
import { Lexer, type Token } from './lexer.ts';
import { JsonError, parseTokens } from './parser.ts';

export { isObject, type Json };

/** How large a message may be. */
export interface MessageLimits {
  readonly bytes: number;
  readonly tokens: number;
  readonly depth: number;
}

/** A message, or what is wrong with it. After a `last` nothing more is read. */
export type Message = { readonly value: Json } | { readonly error: string; readonly last?: true };

/** A longer stretch of what is no JSON is not repeated to who sent it. */
const longestQuote = 256;

/** Reads one stream. */
export class JsonStream {
  readonly #limits: MessageLimits;
  readonly #lexer = new Lexer();
  #tokens: Token[] = [];
  #bytes = 0;
  #braces = 0;
  #brackets = 0;
  #ended = false;

  constructor(limits: MessageLimits) {
    this.#limits = limits;
  }

  /** The messages that end in `chunk`. */
  *read(chunk: Buffer): Generator<Message, void, undefined> {
    if (this.#ended) return;
    for (const token of this.#lexer.read(chunk)) {
      const message = this.#take(token);
      if (message !== undefined) yield message;
      if (this.#ended) return;
    }
    if (this.#bytes + this.#lexer.held > this.#limits.bytes) yield this.#exceeded('token size');
  }

  /** What the end of the stream makes of what has begun. */
  *end(): Generator<Message, void, undefined> {
    if (this.#ended) return;
    const token = this.#lexer.end();
    const message = token && this.#take(token);
    if (message !== undefined) yield message;
    if (this.#tokens.length > 0) yield this.#parse();
  }

  #take(token: Token): Message | undefined {
    const { kind, bytes } = token;
    if (kind === 'error') {
      this.#reset();
      const [stray] = bytes.subarray(0, longestQuote).toString('utf8').split('\0');
      return { error: `JSON parse error, stray '${stray}'` };
    }
    if (kind === '{') this.#braces++;
    else if (kind === '}') this.#braces--;
    else if (kind === '[') this.#brackets++;
    else if (kind === ']') this.#brackets--;
    this.#bytes += bytes.length;
    const limits = this.#limits;
    if (this.#bytes > limits.bytes) return this.#exceeded('token size');
    if (this.#tokens.length >= limits.tokens) return this.#exceeded('token count');
    if (this.#braces + this.#brackets > limits.depth) return this.#exceeded('nesting depth');
    this.#tokens.push(token);
    const isOpen = this.#braces >= 0 && this.#brackets >= 0 && this.#braces + this.#brackets > 0;
    return isOpen ? undefined : this.#parse();
  }

  #parse(): Message {
    const tokens = this.#tokens;
    this.#reset();
    try {
      return { value: parseTokens(tokens) };
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      return { error: error.message };
    }
  }

  #exceeded(what: string): Message {
    this.#reset();
    this.#ended = true;
    return { error: `JSON ${what} limit exceeded`, last: true };
  }

  #reset(): void {
    this.#tokens = [];
    this.#bytes = 0;
    this.#braces = 0;
    this.#brackets = 0;
  }
}
