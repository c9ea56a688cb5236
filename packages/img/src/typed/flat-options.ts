/**
 * Options of an image as one flat list: `{"file": {"filename": "x"}}` is `file.filename=x`.
 *
 * QEMU reads all descriptions of images into this form and each driver takes its own out of it, so that both
 * ways to write them mean the same, and so do mixtures of the two.
 */
import { isMembers, type Members, type Value } from './value.ts';

/** A single value; undefined is JSON's `null`. */
export type Scalar = string | number | boolean | undefined;

/** The members of a JSON object, and those of the objects and lists in it under names with dots. */
export function flatten(members: Members): ReadonlyMap<string, Scalar> {
  const flat = new Map<string, Scalar>();
  const later: (readonly [string, Value])[] = [];
  for (const [name, value] of members) {
    if (isMembers(value) || Array.isArray(value)) later.push([name, value]);
    else flat.set(name, value as Scalar);
  }
  for (const [name, value] of later) {
    const inner = isMembers(value)
      ? value
      : new Map((value as readonly Value[]).map((each, i) => [`${i}`, each]));
    for (const [key, scalar] of flatten(inner)) flat.set(`${name}.${key}`, scalar);
  }
  return flat;
}

/** The options under `prefix.`, without it. */
export function optionsUnder(
  options: ReadonlyMap<string, Scalar>,
  prefix: string,
): ReadonlyMap<string, Scalar> {
  const under = [...options].filter(([name]) => name.startsWith(`${prefix}.`));
  return new Map(under.map(([name, value]) => [name.slice(prefix.length + 1), value]));
}
