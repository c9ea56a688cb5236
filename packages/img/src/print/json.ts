/**
 * JSON as QEMU's tools print it, byte for byte.
 *
 * QEMU keeps an object in a hash table of 512 buckets and prints it in the table's order, and programs
 * compare such output as text. So the order is computed the same way: buckets by number, and in one bucket
 * what came last first. Nothing here knows the keys of any report.
 */

/** A value to print. Numbers are whole; keys of an object stand in the order QEMU's schema lists them. */
export type Json = string | number | boolean | undefined | readonly Json[] | JsonObject;

/** Members that are undefined are left out. */
export interface JsonObject {
  readonly [key: string]: Json;
}

const bucketCount = 512;

/** Indented by four spaces, one member or element a line, with a newline at the end. */
export function formatJson(value: Json): string {
  return `${format(value, '')}\n`;
}

/** On one line, without a newline. */
export function formatJsonLine(value: Json): string {
  if (isList(value)) return `[${value.map(formatJsonLine).join(', ')}]`;
  if (typeof value !== 'object') return format(value, '');
  const members = orderedMembers(value).map(([key, member]) => `${quote(key)}: ${formatJsonLine(member)}`);
  return `{${members.join(', ')}}`;
}

function format(value: Json, indent: string): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  const deeper = `${indent}    `;
  if (isList(value)) {
    return enclose(
      '[',
      ']',
      indent,
      value.map((element) => deeper + format(element, deeper)),
    );
  }
  const members = orderedMembers(value ?? {});
  return enclose(
    '{',
    '}',
    indent,
    members.map(([key, member]) => `${deeper}${quote(key)}: ${format(member, deeper)}`),
  );
}

function enclose(open: string, close: string, indent: string, lines: readonly string[]): string {
  return `${open}\n${lines.join(',\n')}${lines.length > 0 ? '\n' : ''}${indent}${close}`;
}

/** True for a list; `Array.isArray` does not narrow a readonly one. */
export function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

/** The members of an object in the order in which QEMU's tools print them. */
export function orderedMembers(object: JsonObject): readonly (readonly [string, Json])[] {
  return Object.entries(object)
    .filter(([, member]) => member !== undefined)
    .map(([key, member], position) => ({ key, member, position, bucket: bucketOf(key) }))
    .sort((a, b) => a.bucket - b.bucket || b.position - a.position)
    .map(({ key, member }) => [key, member] as const);
}

/** Keys are few and come again and again. */
const buckets = new Map<string, number>();

function bucketOf(key: string): number {
  let bucket = buckets.get(key);
  if (bucket === undefined) {
    bucket = hashed(key);
    if (buckets.size < 1000) buckets.set(key, bucket);
  }
  return bucket;
}

/** The trivial database's string hash, in 32 bits, over the key's bytes. */
function hashed(key: string): number {
  const bytes = Buffer.from(key);
  let hash = Math.imul(0x238f13af, bytes.length);
  bytes.forEach((byte, index) => {
    hash = (hash + (byte << ((index * 5) % 24))) | 0;
  });
  hash = (Math.imul(1103515243, hash) + 12345) >>> 0;
  return hash % bucketCount;
}

const shortEscapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/** Everything but printable ASCII is escaped, in UTF-16 units with upper-case digits. */
function quote(text: string): string {
  const escaped = text.replace(/["\\]|[^ -~]/g, (unit) => {
    return shortEscapes[unit] ?? `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
  });
  return `"${escaped}"`;
}
