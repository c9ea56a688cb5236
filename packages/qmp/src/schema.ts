/**
 * What arguments a command takes: schemas that read a JSON value into a typed one, or refuse it in QEMU's words.
 *
 * Members are judged in the order of the schema, and what nobody asked for after all others, as QEMU's generated
 * code does. Where it names a parameter by its last name only, or as 'null' in a list, so is it here: programs match on it.
 *
 * Spec: QEMU, "How to use the QAPI code generator", "The QAPI schema language"
 */
import { isObject, type Json, type JsonObject } from './json.ts';
import { refusal } from './qmp-error.ts';

/** Where a value stands in the arguments. */
export interface At {
  /** Of the member; undefined for an element of a list. */
  readonly name: string | undefined;
  /** From the arguments on: `actions[0].data`. */
  readonly path: string;
}

/** Reads a value. @throws {QmpError} */
export type Schema<T> = (value: Json, at: At) => T;

/** A member that may be missing. */
export interface Optional<T> {
  readonly optional: Schema<T>;
}

/** The members of an object. */
export interface Fields {
  readonly [name: string]: Schema<unknown> | Optional<unknown>;
}

type OptionalNames<F extends Fields> = {
  [Name in keyof F]: F[Name] extends Optional<unknown> ? Name : never;
}[keyof F];

/** What an object with these members is read into. */
export type Read<F extends Fields> = {
  readonly [Name in Exclude<keyof F, OptionalNames<F>>]: F[Name] extends Schema<infer T> ? T : never;
} & {
  readonly [Name in OptionalNames<F>]?: F[Name] extends Optional<infer T> ? T | undefined : never;
};

function wrongType(name: string | undefined, expected: string): never {
  throw refusal(`Invalid parameter type for '${name ?? 'null'}', expected: ${expected}`);
}

/** A text. */
export const text: Schema<string> = (value, { path }) =>
  typeof value === 'string' ? value : wrongType(path, 'string');

/** `true` or `false`. */
export const flag: Schema<boolean> = (value, { path }) =>
  typeof value === 'boolean' ? value : wrongType(path, 'boolean');

/** Any value. */
export const anything: Schema<Json> = (value) => value;

/** `null`. */
export const nothing: Schema<null> = (value, { path }) => (value === null ? null : wrongType(path, 'null'));

function isWhole(value: Json): value is number | bigint {
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
}

/** A whole number from 0 to 2^32 - 1. */
export const uint32: Schema<number> = (value, { path }) => {
  if (!isWhole(value)) throw refusal(`Parameter '${path}' expects uint64`);
  if (value < 0 || value > 0xffffffff) throw refusal(`Parameter '${path}' expects uint32_t`);
  return Number(value);
};

/** A whole number that a disk can have as size or place. */
export const size: Schema<number> = (value, { path }) => {
  if (!isWhole(value) || value < 0) throw refusal(`Parameter '${path}' expects uint64`);
  if (!Number.isSafeInteger(Number(value)))
    throw refusal(`Parameter '${path}' is ${value}, and numbers above 2^53 - 1 are not supported`);
  return Number(value);
};

/** A whole number. */
export const integer: Schema<number> = (value, { path }) => {
  if (!isWhole(value)) return wrongType(path, 'integer');
  if (!Number.isSafeInteger(Number(value)))
    throw refusal(`Parameter '${path}' is ${value}, and numbers above 2^53 - 1 are not supported`);
  return Number(value);
};

/** One of some words. */
export function choice<const Word extends string>(...words: readonly Word[]): Schema<Word> {
  return (value, at) => {
    const given = text(value, at);
    const word = words.find((each) => each === given);
    if (word !== undefined) return word;
    throw refusal(`Parameter '${at.name ?? 'null'}' does not accept value '${given}'`);
  };
}

/** A list of values that are alike. */
export function list<T>(of: Schema<T>): Schema<readonly T[]> {
  return (value, { path }) => {
    if (!Array.isArray(value)) return wrongType(path, 'array');
    return value.map((each, index) => of(each, { name: undefined, path: `${path}[${index}]` }));
  };
}

/** A member that may be missing. */
export function optional<T>(schema: Schema<T>): Optional<T> {
  return { optional: schema };
}

/** An object with these members and no others. */
export function record<F extends Fields>(fields: F): Schema<Read<F>> {
  return (value, { path }) => {
    if (!isObject(value)) return wrongType(path, 'object');
    const found = readFields(fields, value, path);
    refuseOthers(value, path, fields);
    return found;
  };
}

/** What a value of a `union` is read into: its tag, the members that all have, and those of its branch. */
type Branch<Tag extends string, Base extends Fields, Branches extends Readonly<Record<string, Fields>>> = {
  [Name in keyof Branches]: { readonly [Key in Tag]: Name } & Read<Base> & Read<Branches[Name]>;
}[keyof Branches];

/** An object whose member `tag` says which members it has beside those that all have. */
export function union<
  const Tag extends string,
  Base extends Fields,
  Branches extends Readonly<Record<string, Fields>>,
>(tag: Tag, base: Base, branches: Branches): Schema<Branch<Tag, Base, Branches>> {
  return (value, { path }) => {
    if (!isObject(value)) return wrongType(path, 'object');
    const names = Object.keys(branches);
    const head = readFields({ [tag]: choice(...names), ...base }, value, path) as Record<string, unknown>;
    const fields = branches[head[tag] as string] as Fields;
    const rest = readFields(fields, value, path);
    refuseOthers(value, path, { [tag]: anything, ...base, ...fields });
    return { ...head, ...rest } as Branch<Tag, Base, Branches>;
  };
}

/** One of two types of JSON, told apart by what stands there. @param named how QEMU calls it */
export function either<A, B>(
  named: string,
  isFirst: (value: Json) => boolean,
  first: Schema<A>,
  isSecond: (value: Json) => boolean,
  second: Schema<B>,
): Schema<A | B> {
  return (value, at) => {
    if (isFirst(value)) return first(value, at);
    return isSecond(value) ? second(value, at) : wrongType(at.name, named);
  };
}

/** True for a text: one side of an `either`. */
export function isText(value: Json): boolean {
  return typeof value === 'string';
}

/** Reads the arguments of a command. @throws {QmpError} */
export function readArguments<T>(schema: Schema<T>, given: JsonObject): T {
  return schema(given, { name: undefined, path: '' });
}

function placeOf(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

function readFields<F extends Fields>(fields: F, value: JsonObject, path: string): Read<F> {
  const found: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(fields)) {
    const at = { name, path: placeOf(path, name) };
    const given = Object.hasOwn(value, name) ? value[name] : undefined;
    if (given !== undefined) found[name] = (typeof field === 'function' ? field : field.optional)(given, at);
    else if (typeof field === 'function') throw refusal(`Parameter '${at.path}' is missing`);
  }
  return found as Read<F>;
}

function refuseOthers(value: JsonObject, path: string, fields: Fields): void {
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(fields, name)) throw refusal(`Parameter '${placeOf(path, name)}' is unexpected`);
  }
}
