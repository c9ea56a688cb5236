/**
 * Bytes into the tokens of JSON, however the bytes are cut into chunks.
 *
 * Strings may stand in single quotes as well. What is no token is an error, and what follows it is passed over up to
 * a structural character or a control character, so that one mistake is told once and the stream can be followed again.
 * Escapes, UTF-8 and words are the parser's to judge.
 *
 * Spec: QEMU, "QEMU Machine Protocol Specification", section "Forcing the JSON parser into known-good state"
 */

/** What a token is: a structural character by itself, or a kind. */
export type TokenKind = '{' | '}' | '[' | ']' | ':' | ',' | 'string' | 'integer' | 'float' | 'word' | 'error';

/** A token with its bytes, which stay as they are. */
export interface Token {
  readonly kind: TokenKind;
  readonly bytes: Buffer;
}

type State =
  | 'start'
  | 'recovery'
  | 'double'
  | 'double-escape'
  | 'single'
  | 'single-escape'
  | 'sign'
  | 'zero'
  | 'digits'
  | 'point'
  | 'fraction'
  | 'exponent'
  | 'exponent-sign'
  | 'exponent-digits'
  | 'word';

/** Where a byte leads: on in a token, to its end with the byte, or to its end before the byte. */
type Step = State | { readonly ends: TokenKind } | { readonly before: TokenKind } | 'again' | 'bad';

const bad = 'bad';

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

function isStructural(byte: number): boolean {
  return '{}[]:,'.includes(String.fromCharCode(byte));
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;
}

function isLetter(byte: number): boolean {
  return byte >= 0x61 && byte <= 0x7a;
}

/** Bytes that may stand in a string; 0xfe and 0xff are in no UTF-8, and end what went before. */
function isText(byte: number): boolean {
  return byte >= 0x20 && byte <= 0xfd;
}

function isExponent(byte: number): boolean {
  return byte === 0x65 || byte === 0x45;
}

const steps: Readonly<Record<State, (byte: number) => Step>> = {
  start: (byte) => {
    if (isBlank(byte)) return 'start';
    if (isStructural(byte)) return { ends: String.fromCharCode(byte) as TokenKind };
    if (byte === 0x22) return 'double';
    if (byte === 0x27) return 'single';
    if (byte === 0x2d) return 'sign';
    if (byte === 0x30) return 'zero';
    if (isDigit(byte)) return 'digits';
    return isLetter(byte) ? 'word' : bad;
  },
  recovery: (byte) => (isStructural(byte) || byte < 0x20 || byte >= 0xfe ? 'again' : 'recovery'),
  double: (byte) => {
    if (byte === 0x22) return { ends: 'string' };
    if (byte === 0x5c) return 'double-escape';
    return isText(byte) ? 'double' : bad;
  },
  'double-escape': (byte) => (isText(byte) ? 'double' : bad),
  single: (byte) => {
    if (byte === 0x27) return { ends: 'string' };
    if (byte === 0x5c) return 'single-escape';
    return isText(byte) ? 'single' : bad;
  },
  'single-escape': (byte) => (isText(byte) ? 'single' : bad),
  sign: (byte) => (byte === 0x30 ? 'zero' : isDigit(byte) ? 'digits' : bad),
  zero: (byte) => {
    if (isDigit(byte)) return bad;
    return byte === 0x2e ? 'point' : isExponent(byte) ? 'exponent' : { before: 'integer' };
  },
  digits: (byte) => {
    if (isDigit(byte)) return 'digits';
    return byte === 0x2e ? 'point' : isExponent(byte) ? 'exponent' : { before: 'integer' };
  },
  point: (byte) => (isDigit(byte) ? 'fraction' : bad),
  fraction: (byte) => (isDigit(byte) ? 'fraction' : isExponent(byte) ? 'exponent' : { before: 'float' }),
  exponent: (byte) =>
    isDigit(byte) ? 'exponent-digits' : byte === 0x2b || byte === 0x2d ? 'exponent-sign' : bad,
  'exponent-sign': (byte) => (isDigit(byte) ? 'exponent-digits' : bad),
  'exponent-digits': (byte) => (isDigit(byte) ? 'exponent-digits' : { before: 'float' }),
  word: (byte) => (isLetter(byte) ? 'word' : { before: 'word' }),
};

const nothing = Buffer.alloc(0);

/** Reads one stream. */
export class Lexer {
  #state: State = 'start';
  /** Of the token that began in earlier chunks. */
  #parts: Buffer[] = [];
  #held = 0;

  /** Bytes of a token that has not ended yet. */
  get held(): number {
    return this.#held;
  }

  /** The tokens that end in `chunk`; the last one may be followed by the beginning of another. */
  *read(chunk: Buffer): Generator<Token, void, undefined> {
    let from = 0;
    for (let at = 0; at < chunk.length; ) {
      const step = steps[this.#state](chunk[at] as number);
      if (typeof step === 'object' && 'before' in step) {
        yield this.#token(step.before, chunk.subarray(from, at));
        from = at;
      } else if (step === 'again') {
        this.#state = 'start';
        from = at;
      } else {
        at++;
        if (typeof step === 'object') {
          yield this.#token(step.ends, chunk.subarray(from, at));
          from = at;
        } else if (step === bad) {
          yield this.#token('error', chunk.subarray(from, at));
          this.#state = 'recovery';
        } else {
          this.#state = step;
          if (step === 'start' || step === 'recovery') from = at;
        }
      }
    }
    if (from < chunk.length && this.#state !== 'start' && this.#state !== 'recovery')
      this.#keep(chunk.subarray(from));
  }

  /** The token that the end of the stream makes of what has begun, if anything has. */
  end(): Token | undefined {
    if (this.#state === 'start' || this.#state === 'recovery') return undefined;
    const step = steps[this.#state](0);
    return this.#token(typeof step === 'object' && 'before' in step ? step.before : 'error', nothing);
  }

  /** The kept bytes are a copy: a chunk may be a small part of a large buffer. */
  #keep(bytes: Buffer): void {
    this.#parts.push(Buffer.from(bytes));
    this.#held += bytes.length;
  }

  #token(kind: TokenKind, bytes: Buffer): Token {
    const whole = this.#parts.length === 0 ? bytes : Buffer.concat([...this.#parts, bytes]);
    this.#parts = [];
    this.#held = 0;
    this.#state = 'start';
    return { kind, bytes: whole };
  }
}
