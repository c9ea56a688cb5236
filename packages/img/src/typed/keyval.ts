/**
 * Lists of keys and values, `KEY=VALUE,...`, as QEMU reads them for objects.
 *
 * A dot in a key leads into an object, a number after a dot into a list; a comma in a value is doubled; of several
 * values of one key the last counts. All values are strings. The first item may be a value alone, for a key
 * that is implied.
 */
import { CommandError } from '../report.ts';
import type { Value } from './value.ts';

const longestFragment = 127;

type Tree = Map<string, string | Tree>;

/** A list, read. */
export interface Keyval {
  readonly members: Map<string, Value>;
  /** `help` or `?` stood where a key could. */
  readonly asksForHelp: boolean;
}

/** Reads a list whose first value may stand without its key, which is then `implied`. @throws {CommandError} */
export function parseKeyval(text: string, implied: string): Keyval {
  const tree: Tree = new Map();
  let asksForHelp = false;
  const pattern = /([^=,]*)(?:(=)((?:[^,]|,,)*))?(?:,|$)/suy;
  for (let first = true; pattern.lastIndex < text.length; first = false) {
    const [, key = '', equals, value = ''] = pattern.exec(text) ?? [];
    const alone = equals === undefined;
    if (alone && (key === 'help' || key === '?')) asksForHelp = true;
    else if (alone && first && key !== '') put(tree, implied, [implied], key);
    else {
      const fragments = fragmentsOf(key);
      if (alone) throw new CommandError(`Expected '=' after parameter '${key}'`);
      put(tree, key, fragments, value.replaceAll(',,', ','));
    }
  }
  return { members: membersOf(tree), asksForHelp };
}

/** A name as QEMU's schema allows it, perhaps a vendor's. */
const nameAt = /(?:__[A-Za-z0-9.-]+_)?[A-Za-z][A-Za-z0-9_-]*/y;
const indexAt = /\d+/y;

function fragmentsOf(key: string): readonly string[] {
  const fragments: string[] = [];
  for (let at = 0; ; at++) {
    const fragment = (at > 0 ? matchAt(indexAt, key, at) : undefined) ?? matchAt(nameAt, key, at);
    const end = at + (fragment?.length ?? 0);
    if (fragment === undefined || (end < key.length && key[end] !== '.')) {
      throw new CommandError(`Invalid parameter '${key}'`);
    }
    if (fragment.length > longestFragment) {
      const part = fragment.length < key.length ? ' fragment' : '';
      throw new CommandError(`Parameter${part} '${fragment}' is too long`);
    }
    fragments.push(fragment);
    if (end === key.length) return fragments;
    at = end;
  }
}

function matchAt(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}

function put(tree: Tree, key: string, fragments: readonly string[], value: string): void {
  let within = tree;
  for (const [depth, fragment] of fragments.entries()) {
    const there = within.get(fragment);
    const isLast = depth === fragments.length - 1;
    if (there !== undefined && (typeof there === 'string') !== isLast) {
      const way = isLast ? key : fragments.slice(0, depth + 1).join('.');
      throw new CommandError(`Parameters '${way}.*' used inconsistently`);
    }
    if (isLast) {
      within.set(fragment, value);
      return;
    }
    const next: Tree = there === undefined || typeof there === 'string' ? new Map() : there;
    within.set(fragment, next);
    within = next;
  }
}

function membersOf(tree: Tree, way = ''): Map<string, Value> {
  return new Map([...tree].map(([key, value]) => [key, settled(value, `${way}${key}.`)]));
}

/** An object whose keys are all numbers is a list. */
function settled(value: string | Tree, way: string): Value {
  if (typeof value === 'string') return value;
  const indexes = [...value.keys()].filter((key) => /^\d/.test(key)).length;
  const members = membersOf(value, way);
  if (indexes === 0) return members;
  if (indexes < value.size) throw new CommandError(`Parameters '${way}*' used inconsistently`);
  const list = new Map([...members].map(([key, member]) => [Number(key), member]));
  return Array.from({ length: list.size }, (_, index) => {
    if (!list.has(index)) throw new CommandError(`Parameter '${way}${index}' missing`);
    return list.get(index);
  });
}
