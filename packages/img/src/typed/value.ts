/** What a person can say in a JSON text or a list of keys: the values that both come to. */

/** A value. Undefined stands for JSON's `null`. */
export type Value = string | number | boolean | undefined | readonly Value[] | Members;

/** The members of an object, in the order in which they were written. */
export type Members = ReadonlyMap<string, Value>;

/** True for an object. */
export function isMembers(value: Value): value is Members {
  return value instanceof Map;
}
