/**
 * The tokens of one message into its value. The sentences are QEMU's; the first thing that is wrong is told.
 *
 * Spec: RFC 8259; QEMU's extensions: strings in single quotes, and `\'` in strings
 */
import { type Json, setMember } from './json.ts';
import type { Token } from './lexer.ts';

/** What is wrong with a text, in a sentence. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
}

function wrong(what: string): JsonError {
  return new JsonError(`JSON parse error, ${what}`);
}

/** The value that begins with the first token; what follows it is passed over. @throws {JsonError} */
export function parseTokens(tokens: readonly Token[]): Json {
  let at = 0;
  const peek = (): Token => {
    const token = tokens[at];
    if (token === undefined) throw wrong('premature EOI');
    return token;
  };
  const take = (): Token => {
    const token = peek();
    at++;
    return token;
  };
  const takes = (kind: '}' | ']'): boolean => {
    if (peek().kind !== kind) return false;
    at++;
    return true;
  };
  const value = (): Json => {
    const { kind, bytes } = take();
    if (kind === '{') return members();
    if (kind === '[') return elements();
    if (kind === 'string') return stringOf(bytes);
    if (kind === 'integer') return integerOf(bytes.toString('latin1'));
    if (kind === 'float') return Number(bytes.toString('latin1'));
    if (kind === 'word') return wordOf(bytes.toString('latin1'));
    throw wrong('expecting value');
  };
  const members = (): Json => {
    const object: Record<string, Json> = {};
    if (takes('}')) return object;
    for (;;) {
      const name = value();
      if (typeof name !== 'string') throw wrong('key is not a string in object');
      if (take().kind !== ':') throw wrong('missing : in object pair');
      const member = value();
      if (Object.hasOwn(object, name)) throw wrong('duplicate key');
      setMember(object, name, member);
      const { kind } = take();
      if (kind === '}') return object;
      if (kind !== ',') throw wrong('expected separator in dict');
    }
  };
  const elements = (): Json => {
    const list: Json[] = [];
    if (takes(']')) return list;
    for (;;) {
      list.push(value());
      const { kind } = take();
      if (kind === ']') return list;
      if (kind !== ',') throw wrong('expected separator in list');
    }
  };
  return value();
}

function wordOf(word: string): Json {
  if (word === 'true' || word === 'false') return word === 'true';
  if (word === 'null') return null;
  throw wrong(`invalid keyword '${word.slice(0, 256)}'`);
}

/** A number beyond 64 bits is no whole number any more. */
function integerOf(digits: string): number | bigint {
  const number = Number(digits);
  if (Number.isSafeInteger(number) || digits.length > 20) return number;
  const exact = BigInt(digits);
  return exact >= -(2n ** 63n) && exact < 2n ** 64n ? exact : number;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const shortEscapes: Readonly<Record<string, string>> = {
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  '"': '"',
  "'": "'",
  '/': '/',
  '\\': '\\',
};

function stringOf(quoted: Buffer): string {
  const text = decoded(quoted.subarray(1, -1));
  if (!text.includes('\\')) return text;
  return text.replace(
    /\\u([dD][89abAB][\da-fA-F]{2})\\u([dD][c-fC-F][\da-fA-F]{2})|\\(u.{0,4}|.)/gsu,
    (all, high: string | undefined, low: string, written: string) => {
      if (high !== undefined) return unit(high) + unit(low);
      if (!written.startsWith('u')) return shortOf(written);
      const code = written.slice(1);
      if (!/^[\da-fA-F]{4}$/.test(code) || /^d[89a-f]/i.test(code)) {
        throw wrong(`${all} is not a valid Unicode character`);
      }
      return unit(code);
    },
  );
}

function decoded(bytes: Buffer): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw wrong('invalid UTF-8 sequence in string');
  }
}

function unit(hex: string): string {
  return String.fromCharCode(Number.parseInt(hex, 16));
}

function shortOf(letter: string): string {
  const short = shortEscapes[letter];
  if (short === undefined) throw wrong('invalid escape sequence in string');
  return short;
}
