/**
 * Objects that the user defines with `--object`, such as secrets: `TYPE,id=ID,KEY=VALUE,...` or a JSON object.
 *
 * Definitions are judged before the command begins its work; the code of a kind is loaded only if there is an
 * object of it. An object is its properties; what they mean is the business of whoever asks for it by its id.
 */
import type { OptionRow } from '../options.ts';
import { Answer, CommandError } from '../report.ts';
import { JsonTextError, parseJsonText } from '../typed/json-text.ts';
import { parseKeyval } from '../typed/keyval.ts';
import { isMembers, type Value } from '../typed/value.ts';
import type { KnownKinds, ObjectKind, PropertyType } from './kinds.ts';

/** What stood behind one `--object`. */
interface ObjectDefinition {
  readonly members: ReadonlyMap<string, Value>;
  /** JSON says of each value what it is; elsewhere all are strings. */
  readonly isJson: boolean;
  readonly asksForHelp: boolean;
}

/** The value of a property; the members of a list are for its kind to judge. */
export type Property = string | number | boolean | readonly Value[];

/** An object. */
export interface UserObject {
  readonly type: string;
  readonly id: string;
  readonly properties: ReadonlyMap<string, Property>;
}

/** The objects of one command line. */
export interface Objects {
  find(id: string): UserObject | undefined;
}

/** No object is defined. */
export const noObjects: Objects = { find: () => undefined };

/** `--object OBJDEF`. */
export const objectRow = {
  name: 'object',
  value: 'OBJDEF',
  help: "define an object, such as a secret: TYPE,id=ID,...; 'help' lists the types",
  many: true,
} as const satisfies OptionRow;

function readDefinition(text: string): ObjectDefinition {
  if (!text.startsWith('{')) {
    const { members, asksForHelp } = parseKeyval(text, 'qom-type');
    return { members, isJson: false, asksForHelp };
  }
  try {
    const members = parseJsonText(text);
    if (isMembers(members)) return { members, isJson: true, asksForHelp: false };
  } catch (error) {
    if (!(error instanceof JsonTextError)) throw error;
    throw new CommandError(error.message, { cause: error });
  }
  throw new TypeError('a text that begins with a brace is an object');
}

/**
 * Makes the objects that definitions describe, in their order.
 *
 * @param texts what stood behind each `--object`
 * @throws {CommandError} @throws {Answer} if a definition asks for help
 */
export async function makeObjects(
  texts: readonly string[],
  loadKinds: () => Promise<KnownKinds> = () => import('./kinds.ts'),
): Promise<Objects> {
  if (texts.length === 0) return noObjects;
  const { absentKinds, kinds } = await loadKinds();
  const made = new Map<string, UserObject>();
  const objects: Objects = { find: (id) => made.get(id) };
  for (const definition of texts.map(readDefinition)) {
    const named = definition.members.get('qom-type');
    const load = typeof named === 'string' && Object.hasOwn(kinds, named) ? kinds[named] : undefined;
    if (definition.asksForHelp) {
      throw new Answer(load ? helpOf(String(named), await load()) : listOf(Object.keys(kinds)));
    }
    const type = textOf(definition, 'qom-type');
    if (!load) {
      if (absentKinds.has(type)) throw new CommandError(`objects of type '${type}' are not supported yet`);
      throw new CommandError(`Parameter 'qom-type' does not accept value '${type}'`);
    }
    const kind = await load();
    const object = objectOf(type, kind, definition);
    kind.check?.(object, objects, definition);
    if (made.has(object.id)) {
      throw new CommandError(`attempt to add duplicate property '${object.id}' to object (type 'container')`);
    }
    made.set(object.id, object);
  }
  return objects;
}

function objectOf(type: string, kind: ObjectKind, definition: ObjectDefinition): UserObject {
  const id = textOf(definition, 'id');
  const properties = new Map<string, Property>();
  for (const [name, value] of definition.members) {
    if (name === 'qom-type' || name === 'id') continue;
    const wanted = Object.hasOwn(kind.properties, name) ? kind.properties[name] : undefined;
    if (wanted === undefined) throw new CommandError(`Parameter '${name}' is unexpected`);
    properties.set(name, propertyOf(name, value, wanted, definition.isJson));
  }
  if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) {
    const hint = "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n";
    throw new CommandError("Parameter 'id' expects an identifier", { hint });
  }
  return { type, id, properties };
}

function textOf({ members, isJson }: ObjectDefinition, name: string): string {
  if (!members.has(name)) throw new CommandError(`Parameter '${name}' is missing`);
  return String(propertyOf(name, members.get(name), 'string', isJson));
}

function propertyOf(name: string, value: Value, type: PropertyType, isJson: boolean): Property {
  const read = isJson ? readers.json : readers.text;
  const property = read[typeof type === 'string' ? type : 'string'](name, value);
  if (typeof type === 'string' || type.includes(String(property))) return property;
  throw new CommandError(`Parameter '${name}' does not accept value '${property}'`);
}

type Read = (name: string, value: Value) => Property;

function ofType(wanted: 'string' | 'boolean' | 'number', word: string): Read {
  return (name, value) => {
    if (typeof value === wanted) return value as Property;
    throw new CommandError(`Invalid parameter type for '${name}', expected: ${word}`);
  };
}

function fromText(make: (text: string) => Property | undefined, expected: string): Read {
  return (name, value) => {
    const property = typeof value === 'string' ? make(value) : undefined;
    if (property !== undefined) return property;
    if (typeof value === 'string') throw new CommandError(`Parameter '${name}' expects ${expected}`);
    throw new CommandError(`Parameters '${name}.*' are unexpected`);
  };
}

const list: Read = (name, value) => {
  if (Array.isArray(value)) return value;
  throw new CommandError(`Invalid parameter type for '${name}', expected: array`);
};

const switches: ReadonlyMap<string, boolean> = new Map(
  (['on', 'yes', 'true', 'y'] as const)
    .map((word) => [word, true] as readonly [string, boolean])
    .concat((['off', 'no', 'false', 'n'] as const).map((word) => [word, false] as const)),
);

const readers: Readonly<
  Record<'json' | 'text', Readonly<Record<'string' | 'boolean' | 'integer' | 'list', Read>>>
> = {
  json: {
    list,
    string: ofType('string', 'string'),
    boolean: ofType('boolean', 'boolean'),
    integer: ofType('number', 'integer'),
  },
  text: {
    list,
    string: fromText((text) => text, 'a text'),
    boolean: fromText((text) => switches.get(text), "'on' or 'off'"),
    integer: fromText((text) => (/^\d+$/.test(text) ? Number(text) : undefined), 'integer'),
  },
};

function listOf(names: readonly string[]): string {
  return `List of user creatable objects:\n${names.map((name) => `  ${name}\n`).join('')}`;
}

function helpOf(type: string, { properties }: ObjectKind): string {
  const rows = Object.entries(properties).sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = rows.map(([name, wanted]) => `  ${name}=<${helpWord(wanted)}>\n`);
  return `${type} options:\n${lines.join('')}`;
}

function helpWord(type: PropertyType): string {
  if (typeof type !== 'string') return type.join('|');
  return { string: 'string', boolean: 'bool', integer: 'int', list: 'list' }[type];
}
