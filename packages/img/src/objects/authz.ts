/**
 * `authz-simple` and `authz-list-file`: whom a TLS server lets in, by the name in the certificate or the name of the key.
 *
 * Spec: QEMU System Emulation User's Guide, "Authorization services"
 */
import { readFileSync, statSync } from 'node:fs';
import type { ServerTls } from '@strata/nbd';
import { CommandError } from '../report.ts';
import { parseJsonText } from '../typed/json-text.ts';
import { isMembers, type Members, type Value } from '../typed/value.ts';
import type { ObjectKind } from './kinds.ts';
import type { Objects, Property } from './objects.ts';

/** No list is longer. */
const longestFile = 1024 * 1024;

type Judge = (name: string) => boolean;

/** One name. */
export const authzSimple: ObjectKind = {
  properties: { identity: 'string' },
  check: ({ properties }) => void required(properties, 'identity'),
};

/** Rules in a file: the first that fits a name decides. */
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
  const judge = judges[object.type]?.(object.properties);
  if (judge === undefined) throw new CommandError(`Object with id '${id}' does not authorize clients`);
  return (name) => name !== undefined && judge(name);
}

const judges: Readonly<Record<string, (properties: ReadonlyMap<string, Property>) => Judge>> = {
  'authz-simple': (properties) => {
    const identity = required(properties, 'identity');
    return (name) => name === identity;
  },
  'authz-list-file': (properties) => {
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
    return judgeOf(list);
  } catch (error) {
    throw new CommandError(`Unable to read the access list ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function judgeOf(list: Members): Judge {
  const rules = list.get('rules') ?? [];
  if (!Array.isArray(rules)) throw new Error("'rules' is no list");
  const judged = (rules as readonly Value[]).map((rule) => {
    if (!isMembers(rule)) throw new Error('a rule is no object');
    const match = rule.get('match');
    if (typeof match !== 'string') throw new Error("a rule has no 'match'");
    const format = wordOf(rule, 'format', ['exact', 'glob'], 'exact');
    const pattern = format === 'glob' ? globOf(match) : undefined;
    return {
      fits: (name: string) => pattern?.test(name) ?? name === match,
      lets: wordOf(rule, 'policy', ['allow', 'deny'], undefined) === 'allow',
    };
  });
  const otherwise = wordOf(list, 'policy', ['allow', 'deny'], 'deny') === 'allow';
  return (name) => judged.find(({ fits }) => fits(name))?.lets ?? otherwise;
}

function wordOf(members: Members, name: string, words: readonly string[], usual: string | undefined): string {
  const word = members.get(name) ?? usual;
  if (typeof word === 'string' && words.includes(word)) return word;
  throw new Error(`'${name}' is none of ${words.join(' and ')}`);
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
