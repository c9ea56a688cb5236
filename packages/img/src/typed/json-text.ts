/**
 * JSON as QEMU's tools read it from a command line.
 *
 * It is JSON with strings in single quotes as well, so that a text in double quotes of the shell can hold one; a
 * key that comes twice is an error. The sentences are QEMU's.
 */
import { isObject, type Json, JsonStream } from '@strata/qmp/json-stream';
import type { Members, Value } from './value.ts';

/** What is wrong with a text, in a sentence. */
export class JsonTextError extends Error {
  override readonly name = 'JsonTextError';
}

/** QEMU's limits. */
const limits = { bytes: 64 * 1024 * 1024, tokens: 2 ** 21, depth: 1024 };

/** The one value that `text` is. @throws {JsonTextError} */
export function parseJsonText(text: string): Value {
  const stream = new JsonStream(limits);
  const [first, more] = [...stream.read(Buffer.from(text)), ...stream.end()];
  if (first === undefined) throw new JsonTextError('Expecting a JSON value');
  if ('error' in first) throw new JsonTextError(first.error);
  if (more !== undefined) throw new JsonTextError('Expecting at most one JSON value');
  return asValue(first.value);
}

function asValue(json: Json): Value {
  if (isObject(json)) return membersOf(json);
  if (Array.isArray(json)) return json.map(asValue);
  if (typeof json === 'bigint') return Number(json);
  // No name of anything has a NUL in it, and those who print or open one would stop there.
  if (typeof json === 'string' && json.includes('\0')) {
    throw new JsonTextError('JSON parse error, \\u0000 is not supported in a string');
  }
  return (json as string | number | boolean | null) ?? undefined;
}

function membersOf(object: Readonly<Record<string, Json | undefined>>): Members {
  return new Map(Object.entries(object).map(([name, member]) => [name, asValue(member ?? null)]));
}
