/**
 * JSON as QEMU's tools read it from a command line.
 *
 * It is JSON with strings in single quotes as well, so that a text in double quotes of the shell can hold one; a
 * key that comes twice is an error. The sentences are QEMU's.
 */
import type { Members, Value } from './value.ts';

/** What is wrong with a text, in a sentence. */
export class JsonTextError extends Error {
  override readonly name = 'JsonTextError';
}

/** Objects and lists inside each other; QEMU's limit. */
const deepest = 1024;

const token =
  /[ \t\r\n]*(?:([{}[\]:,])|("(?:[^"\\\p{Cc}]|\\.)*"|'(?:[^'\\\p{Cc}]|\\.)*')|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.+-])|([a-z]+)|$)/uy;

interface Token {
  readonly kind: 'mark' | 'string' | 'number' | 'word' | 'end';
  readonly text: string;
}

/** The one value that `text` is. @throws {JsonTextError} */
export function parseJsonText(text: string): Value {
  const tokens = tokensOf(text);
  let at = 0;
  const peek = (): Token => tokens[at] as Token;
  const take = (): Token => {
    const next = peek();
    if (next.kind === 'end') throw wrong('premature EOI');
    at++;
    return next;
  };
  const takes = (mark: string): boolean => {
    if (peek().kind !== 'mark' || peek().text !== mark) return false;
    at++;
    return true;
  };
  const value = (depth: number): Value => {
    if (depth > deepest) throw wrong('nesting is too deep');
    const { kind, text: written } = take();
    if (kind === 'string') return stringOf(written);
    if (kind === 'number') return Number(written);
    if (kind === 'word') return wordOf(written);
    if (written === '{') return members(depth);
    if (written === '[') return elements(depth);
    throw wrong('expecting value');
  };
  const members = (depth: number): Members => {
    const found = new Map<string, Value>();
    if (takes('}')) return found;
    for (;;) {
      const key = value(depth + 1);
      if (typeof key !== 'string') throw wrong('key is not a string in object');
      if (!takes(':')) throw wrong(peek().kind === 'end' ? 'premature EOI' : 'missing : in object pair');
      const member = value(depth + 1);
      if (found.has(key)) throw wrong('duplicate key');
      found.set(key, member);
      if (takes('}')) return found;
      if (!takes(',')) throw wrong(peek().kind === 'end' ? 'premature EOI' : 'expected separator in dict');
    }
  };
  const elements = (depth: number): readonly Value[] => {
    const found: Value[] = [];
    if (takes(']')) return found;
    for (;;) {
      found.push(value(depth + 1));
      if (takes(']')) return found;
      if (!takes(',')) throw wrong(peek().kind === 'end' ? 'premature EOI' : 'expected separator in list');
    }
  };
  if (peek().kind === 'end') throw new JsonTextError('Expecting a JSON value');
  const whole = value(1);
  if (peek().kind !== 'end') throw new JsonTextError('Expecting at most one JSON value');
  return whole;
}

function tokensOf(text: string): readonly Token[] {
  const tokens: Token[] = [];
  token.lastIndex = 0;
  for (;;) {
    const from = token.lastIndex;
    const match = token.exec(text);
    if (match === null) throw wrong(`stray '${strayAt(text.slice(from))}'`);
    const [, mark, string, number, word] = match;
    if (mark !== undefined) tokens.push({ kind: 'mark', text: mark });
    else if (string !== undefined) tokens.push({ kind: 'string', text: string });
    else if (number !== undefined) tokens.push({ kind: 'number', text: number });
    else if (word !== undefined) tokens.push({ kind: 'word', text: word });
    else {
      tokens.push({ kind: 'end', text: '' });
      return tokens;
    }
  }
}

/** What stands where no token does: a number that is none, a string that does not end, or one character. */
function strayAt(rest: string): string {
  const [, stray = ''] = /^\s*(-?[\d.]+[\w.]?|-.?|["'].*|.?)/su.exec(rest) ?? [];
  return stray;
}

function wrong(what: string): JsonTextError {
  return new JsonTextError(`JSON parse error, ${what}`);
}

function wordOf(word: string): boolean | undefined {
  if (word === 'true' || word === 'false') return word === 'true';
  if (word === 'null') return undefined;
  throw wrong(`invalid keyword '${word}'`);
}

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

function stringOf(quoted: string): string {
  const text = quoted.slice(1, -1).replace(/\\(u([\da-fA-F]{4})|.)/gsu, (all, escaped: string, unit) => {
    if (unit !== undefined && unit !== '0000') return String.fromCharCode(Number.parseInt(unit, 16));
    const short = shortEscapes[escaped];
    if (short === undefined) throw wrong(`invalid escape sequence '${all}'`);
    return short;
  });
  if (/\p{Cs}/u.test(text)) throw wrong('invalid surrogate pair in a string');
  return text;
}
