/**
 * The options of a new image (`-o`): their tables, reading them, and showing them as qemu-img does.
 *
 * A list is `name=value,...`; a comma inside a value is doubled; a switch may stand alone, or behind `no` to turn
 * it off. The order of a table is the order of the `Formatting` line, the help sorts by name. Names that a
 * format knows but this version does not make are in the tables too: the format refuses them.
 */
import { type BackingReference, parseSize } from '@strata/block';
import { CommandError, UsageError } from './report.ts';

/** One option that a new image can be given. */
export interface CreationRow {
  readonly name: string;
  readonly type: 'text' | 'switch' | 'bytes' | 'number';
  readonly help: string;
  /** What stands in the `Formatting` line when the option is not given. */
  readonly standard?: string;
}

/** A value given to `-o`: bytes and numbers are numbers, a switch is true or false. */
export type CreationValue = string | number | boolean;

/** The options of a new image as they were given, by name. */
export type CreationValues = ReadonlyMap<string, CreationValue>;

interface Item {
  readonly name: string;
  /** Undefined: the name stands alone. */
  readonly text: string | undefined;
}

/** Reads a word of the command line that is a list for `-o`. @throws {UsageError} */
export function readOptionList(list: string): string {
  const trailing = /,*$/.exec(list)?.[0].length ?? 0;
  if (list.length === 0 || list.startsWith(',') || trailing % 2 === 1) {
    throw new UsageError(`Invalid option list: ${list}`);
  }
  return list;
}

/** True if the lists given to `-o` ask for the table. */
export function asksForTable(lists: readonly string[]): boolean {
  return itemsOf(lists).some(({ name, text }) => text === undefined && (name === 'help' || name === '?'));
}

/**
 * The values of the lists given to `-o`, in their order; of several values of one name the last counts.
 *
 * @throws {CommandError} without the name of the image
 */
export function parseCreation(
  table: readonly CreationRow[],
  lists: readonly string[],
): Map<string, CreationValue> {
  const values = new Map<string, CreationValue>();
  for (const item of itemsOf(lists)) {
    const [row, text] = recognize(table, item);
    values.set(row.name, readers[row.type](row.name, text));
  }
  return values;
}

/** Adds what `-b` and `-F` say. @throws {CommandError} if the format has no backing files */
export function setBacking(
  table: readonly CreationRow[],
  values: Map<string, CreationValue>,
  {
    format,
    backing,
    backingFormat,
  }: { format: string; backing: string | undefined; backingFormat: string | undefined },
): void {
  for (const [name, value, what] of [
    ['backing_file', backing, 'Backing file'],
    ['backing_fmt', backingFormat, 'Backing file format'],
  ] as const) {
    if (value === undefined) continue;
    if (!table.some((row) => row.name === name)) {
      throw new CommandError(`${what} not supported for file format '${format}'`);
    }
    values.set(name, value);
  }
}

/** The backing file among the values. */
export function backingReference(values: CreationValues): BackingReference | undefined {
  const name = values.get('backing_file');
  const format = values.get('backing_fmt');
  if (name === undefined) return undefined;
  return { name: String(name), format: format === undefined ? undefined : String(format) };
}

function itemsOf(lists: readonly string[]): readonly Item[] {
  const joined = lists.join(',');
  const items: Item[] = [];
  const pattern = /([^=,]*)(?:=((?:[^,]|,,)*))?(?:,|$)/gy;
  while (pattern.lastIndex < joined.length) {
    const [, name = '', text] = pattern.exec(joined) ?? [];
    items.push({ name, text: text?.replaceAll(',,', ',') });
  }
  return items;
}

function recognize(table: readonly CreationRow[], { name, text }: Item): readonly [CreationRow, string] {
  const negated = text === undefined && name.startsWith('no') ? name.slice(2) : undefined;
  const row = table.find((candidate) => candidate.name === name);
  if (row) return [row, text ?? 'on'];
  const off = table.find((candidate) => candidate.name === negated);
  if (off) return [off, 'off'];
  throw new CommandError(`Invalid parameter '${negated ?? name}'`);
}

/** What follows a sentence about a size that is none. */
export const suffixHint =
  'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.\n';

const readers: Record<CreationRow['type'], (name: string, text: string) => CreationValue> = {
  text: (_name, text) => text,
  switch: (name, text) => {
    if (text === 'on' || text === 'off') return text === 'on';
    throw new CommandError(`Parameter '${name}' expects 'on' or 'off'`);
  },
  bytes: (name, text) => {
    const size = parseSize(text);
    if (typeof size === 'number') return size;
    const sentence = `Parameter '${name}' expects a non-negative number below 2^64`;
    throw new CommandError(sentence, { hint: suffixHint });
  },
  number: (name, text) => {
    const number = Number(text);
    if (/^\s*[+-]?(0x[\da-f]+|\d+)$/i.test(text) && Number.isSafeInteger(number)) return number;
    throw new CommandError(`Parameter '${name}' expects a number`);
  },
};

/** The options as the `Formatting` line shows them: what was given and what stands by itself, in the table's order. */
export function showCreation(table: readonly CreationRow[], values: CreationValues): string {
  return table
    .map(({ name, standard }) => ({ name, value: values.get(name) ?? standard }))
    .filter(({ value }) => value !== undefined)
    .map(({ name, value }) => `${name}=${showValue(value)}`)
    .join(' ');
}

function showValue(value: CreationValue | undefined): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return String(value).replaceAll(',', ',,');
}

const typeNames = {
  text: 'str',
  switch: 'bool (on/off)',
  bytes: 'size',
  number: 'num',
} as const satisfies Record<CreationRow['type'], string>;

/** The table as `-o help` prints it. */
export function creationHelp(table: readonly CreationRow[]): string {
  return [...table]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, type, help }) => `${`  ${name}=<${typeNames[type]}>`.padEnd(24)} - ${help}\n`)
    .join('');
}
