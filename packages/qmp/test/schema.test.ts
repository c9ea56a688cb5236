/** Schemas, as far as the table of exchanges with the real daemon does not judge them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '../src/json.ts';
import { integer, optional, readArguments, record, size, text, union } from '../src/schema.ts';

const refuses = (schema: Parameters<typeof readArguments>[0], given: JsonObject, sentence: string): void =>
  assert.throws(() => readArguments(schema, given), { name: 'QmpError', message: sentence });

test('numbers that no disk can have are refused', () => {
  const schema = record({ size: optional(size), speed: optional(integer) });
  assert.deepEqual(readArguments(schema, { size: 0, speed: -5 }), { size: 0, speed: -5 });
  refuses(schema, { size: -1 }, "Parameter 'size' expects uint64");
  refuses(schema, { size: 1.5 }, "Parameter 'size' expects uint64");
  const beyond = 'and numbers above 2^53 - 1 are not supported';
  refuses(schema, { size: 2n ** 60n }, `Parameter 'size' is 1152921504606846976, ${beyond}`);
  refuses(schema, { speed: 2n ** 60n }, `Parameter 'speed' is 1152921504606846976, ${beyond}`);
  refuses(schema, { speed: '5' }, "Invalid parameter type for 'speed', expected: integer");
});

test('members of a prototype are no arguments, and no schema', () => {
  const schema = record({ name: optional(text) });
  refuses(schema, { toString: 'x' }, "Parameter 'toString' is unexpected");
  const branches = union('type', {}, { a: { name: text } });
  refuses(branches, { type: 'constructor' }, "Parameter 'type' does not accept value 'constructor'");
  refuses(branches, { type: 'a', name: 'x', valueOf: 1 }, "Parameter 'valueOf' is unexpected");
});
