/**
 * The arguments of a command as a person types them: `key=value` with dots into objects and lists, or one JSON object.
 *
 * What a value is, its form tells, because what a command takes is the server's to know.
 */
import type { Json, JsonObject } from '@strata/qmp';
import { UsageError } from '../report.ts';
import { JsonTextError, parseJsonText } from '../typed/json-text.ts';
import { parseKeyval } from '../typed/keyval.ts';
import { isMembers, type Value } from '../typed/value.ts';

/** @throws {UsageError} @throws {CommandError} for what are no arguments */
export function commandArguments(words: readonly string[]): JsonObject {
  const [first, ...more] = words;
  if (first === undefined) return {};
  if (first.trimStart().startsWith('{')) {
    if (more.length > 0) throw new UsageError('Arguments are one JSON object, or key=value');
    return fromJson(first);
  }
  const bare = words.find((word) => !word.includes('='));
  if (bare !== undefined) throw new UsageError(`Expected '=' after parameter '${bare}'`);
  const { members } = parseKeyval(words.join(','), '');
  return objectOf(members, (text) => (typeof text === 'string' ? read(text) : (text ?? null)));
}

function fromJson(text: string): JsonObject {
  try {
    const value = parseJsonText(text);
    if (!isMembers(value)) throw new UsageError('Invalid JSON object given');
    return objectOf(value, (scalar) => scalar ?? null);
  } catch (error) {
    if (!(error instanceof JsonTextError)) throw error;
    throw new UsageError(error.message);
  }
}

/** What a value alone is. */
type Reader = (value: string | number | boolean | undefined) => Json;

function objectOf(members: ReadonlyMap<string, Value>, read: Reader): JsonObject {
  return Object.fromEntries([...members].map(([name, value]) => [name, jsonOf(value, read)]));
}

function jsonOf(value: Value, read: Reader): Json {
  if (isMembers(value)) return objectOf(value, read);
  if (Array.isArray(value)) return value.map((each: Value) => jsonOf(each, read));
  return read(value as string | number | boolean | undefined);
}

function read(text: string): Json {
  if (text === 'true' || text === 'false') return text === 'true';
  if (text === 'null') return null;
  if (/^-?(0|[1-9]\d*)$/.test(text)) return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
  return /^".*"$/s.test(text) ? text.slice(1, -1) : text;
}
