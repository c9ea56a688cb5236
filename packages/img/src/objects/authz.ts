/**
 * `authz-simple`, `authz-list` and `authz-list-file`: whom a TLS server lets in, by the name in the certificate or the name of the key.
 *
 * Spec: QEMU System Emulation User's Guide, "Authorization services"
 */
import { readFileSync, statSync } from 'node:fs';
import type { ServerTls } from '@strata/nbd';
import { CommandError } from '../report.ts';
import { parseJsonText } from '../typed/json-text.ts';
import { isMembers, type Members, type Value } from '../typed/value.ts';
import type { ObjectKind } from './kinds.ts';
import type { Objects, Property, UserObject } from './objects.ts';

/** No list is longer. */
const longestFile = 1024 * 1024;

type Judge = (name: string) => boolean;

const policies = ['allow', 'deny'] as const;
const formats = ['exact', 'glob'] as const;

/** One name. */
export const authzSimple: ObjectKind = {
  properties: { identity: 'string' },
  check: ({ properties }) => void required(properties, 'identity'),
};

/** Rules: the first that fits a name decides, and `policy` where none does. */
export const authzList: ObjectKind = {
  properties: { policy: policies, rules: 'list' },
  check: ({ properties }, _others, { isJson }) => void judgeOf(properties, isJson),
};

/** Rules in a file of JSON. */
export const authzListFile: ObjectKind = {
  properties: { filename: 'string', refresh: 'boolean' },
  check: ({ properties }) => void readList(required(properties, 'filename')),
};

/**
 * Who is let in, judged by the object called `id`. A client without a name is not.
 * @throws {CommandError} for an object that judges nobody
 */
export function authorization(objects: Objects, id: string): NonNullable<ServerTls['authorize']> {
  const object = objects.find(id);
  if (object === undefined) throw new CommandError(`No authorization object with id '${id}'`);
  const judge = judges[object.type]?.(object);
  if (judge === undefined) throw new CommandError(`Object with id '${id}' does not authorize clients`);
  return (name) => name !== undefined && judge(name);
}

const judges: Readonly<Record<string, (object: UserObject) => Judge>> = {
  'authz-list': ({ properties }) => judgeOf(properties, false),
  'authz-simple': ({ properties }) => {
    const identity = required(properties, 'identity');
    return (name) => name === identity;
  },
  'authz-list-file': ({ properties }) => {
    const path = required(properties, 'filename');
    const read = readList(path);
    if (properties.get('refresh') === false) return read;
    // Read anew for each client: a list that cannot be read lets nobody in.
    return (name) => {
      try {
        return readList(path)(name);
      } catch {
        return false;
      }
    };
  },
};

function required(properties: ReadonlyMap<string, Property>, name: string): string {
  const value = properties.get(name);
  if (typeof value !== 'string') throw new CommandError(`Parameter '${name}' is missing`);
  return value;
}

/** @throws {CommandError} */
function readList(path: string): Judge {
  try {
    if (statSync(path).size > longestFile) throw new Error('it is longer than 1 MiB');
    const list = parseJsonText(readFileSync(path, 'utf8'));
    if (!isMembers(list)) throw new Error('it does not hold a JSON object');
    return judgeOf(list, true);
  } catch (error) {
    throw new CommandError(`Unable to read the access list ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** @throws {CommandError} in QEMU's words; it names members of lists as JSON does, or as keys do */
function judgeOf(list: Members, isJson: boolean): Judge {
  const rules = list.get('rules') ?? [];
  if (!Array.isArray(rules)) throw wrongType('rules', 'array');
  const judged = (rules as readonly Value[]).map((rule, index) =>
    readRule(rule, isJson ? `rules[${index}]` : `rules.${index}`),
  );
  const otherwise = wordOf(list, 'policy', policies, '') ?? 'deny';
  return (name) => (judged.find(({ fits }) => fits(name))?.policy ?? otherwise) === 'allow';
}

interface Rule {
  readonly policy: (typeof policies)[number];
  fits(name: string): boolean;
}

function readRule(rule: Value, where: string): Rule {
  if (!isMembers(rule)) throw wrongType(where, 'object');
  const match = rule.get('match');
  if (match === undefined) throw new CommandError(`Parameter '${where}.match' is missing`);
  if (typeof match !== 'string') throw wrongType(`${where}.match`, 'string');
  const policy = wordOf(rule, 'policy', policies, `${where}.`);
  if (policy === undefined) throw new CommandError(`Parameter '${where}.policy' is missing`);
  const isGlob = wordOf(rule, 'format', formats, `${where}.`) === 'glob';
  for (const name of rule.keys()) {
    if (['match', 'policy', 'format'].includes(name)) continue;
    throw new CommandError(`Parameter '${where}.${name}' is unexpected`);
  }
  const pattern = isGlob ? globOf(match) : undefined;
  return { policy, fits: (name) => pattern?.test(name) ?? name === match };
}

function wordOf<Word extends string>(
  members: Members,
  name: string,
  words: readonly Word[],
  where: string,
): Word | undefined {
  const value = members.get(name);
  if (value === undefined) return undefined;
  if (typeof value !== 'string') throw wrongType(where + name, 'string');
  const word = words.find((each) => each === value);
  if (word === undefined) throw new CommandError(`Parameter '${name}' does not accept value '${value}'`);
  return word;
}

function wrongType(where: string, expected: string): CommandError {
  return new CommandError(`Invalid parameter type for '${where}', expected: ${expected}`);
}

/** As fnmatch: `*` and `?` stand for anything. */
function globOf(glob: string): RegExp {
  const parts = Array.from(glob, (character) => {
    if (character === '*') return '.*';
    if (character === '?') return '.';
    return character.replace(/[\\^$.|+()[\]{}/-]/, '\\$&');
  });
  return new RegExp(`^${parts.join('')}$`, 'su');
}
