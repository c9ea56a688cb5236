/**
 * The values that QMP carries, and their text.
 *
 * A whole number that a JavaScript number cannot hold is a bigint, so that an `id` comes back as it was sent.
 *
 * Spec: RFC 8259, "The JavaScript Object Notation (JSON) Data Interchange Format"
 */

/** A value. */
export type Json = null | boolean | number | bigint | string | readonly Json[] | JsonObject;

/** Members that are undefined are left out of a text. */
export interface JsonObject {
  readonly [key: string]: Json | undefined;
}

/** True for an object. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Gives an object under construction a member, whatever its name is. */
export function setMember(object: Record<string, Json>, name: string, value: Json): void {
  if (name !== '__proto__') object[name] = value;
  else Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
}

/** The text of a value, on one line. */
export function formatMessage(value: Json): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : 'null';
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(formatMessage).join(', ')}]`;
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}: ${formatMessage(member as Json)}`).join(', ')}}`;
}
