/**
 * Command lines as `getopt_long` reads them, from one table per command.
 *
 * `util.parseArgs` splits the words (`-fqcow2`, `-pq`, `--output=json`, options after operands, `--`). What it
 * lacks is made here: a long name may be cut short while it stays unique, and errors come in the order of
 * the command line, as the values are read. The same table makes the `--help` of the command.
 */
import { parseArgs } from 'node:util';
import { UsageError } from './report.ts';

/** One option of a command. */
export interface OptionRow<T = unknown> {
  readonly letter?: string;
  readonly name?: string;
  /** What the help calls the value; an option without it takes none. */
  readonly value?: string;
  readonly help: string;
  /** Makes a value of the text, or throws what is wrong with it. Of a switch only the throwing counts. */
  readonly read?: (text: string) => T;
  /** True: every occurrence counts. Otherwise the last one does. */
  readonly many?: true;
  /** True: it is one of the actions of `ParsedLine.inOrder`. */
  readonly inOrder?: true;
}

/** The options of a command under the names that the command uses. `-h` and `--help` are added by themselves. */
export type OptionTable = Readonly<Record<string, OptionRow>>;

type Value<Row> = Row extends { readonly value: string }
  ? Row extends { readonly read: (text: string) => infer T }
    ? T
    : string
  : true;

/** What was given: true or undefined for a switch, the value read for an option that takes one. */
export type OptionValues<Table extends OptionTable> = {
  readonly [Key in keyof Table]: Table[Key] extends { readonly many: true }
    ? readonly Value<Table[Key]>[]
    : Value<Table[Key]> | undefined;
};

/** A command line, read. */
export interface ParsedLine<Table extends OptionTable> {
  readonly options: OptionValues<Table>;
  readonly operands: readonly string[];
  /** The options whose rows say so, as often and in the order in which they were given. */
  readonly inOrder: readonly { readonly key: string; readonly value: unknown }[];
  /** Those of `operands` that stand behind `--`, if there is one. */
  readonly afterDashes?: readonly string[];
}

const helpRow: OptionRow = { letter: 'h', name: 'help', help: 'print this help and exit' };

/**
 * Reads the words after the command's name. Returns `'help'` if help is asked for before anything is wrong.
 *
 * @throws {UsageError}
 */
export function parseLine<Table extends OptionTable>(
  table: Table,
  words: readonly string[],
): ParsedLine<Table> | 'help' {
  const spellings = spell(table);
  const { tokens } = parseArgs({
    args: [...words],
    options: parserOptions(spellings),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values: Record<string, unknown> = {};
  for (const [key, row] of Object.entries(table)) if (row.many) values[key] = [];
  const operands: string[] = [];
  const inOrder: { key: string; value: unknown }[] = [];
  let dashes: number | undefined;
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value);
    if (token.kind === 'option-terminator') dashes = operands.length;
    if (token.kind !== 'option') continue;
    const found = spellings.get(token.rawName);
    if (!found || (found.row.value === undefined && token.inlineValue === true)) {
      throw new UsageError(`unrecognized option '${words[token.index]}'`, { pointToHelp: true });
    }
    if (found.row === helpRow) return 'help';
    keep(values, found, token.value, words[token.index]);
    if (found.row.inOrder) inOrder.push({ key: found.key, value: values[found.key] });
  }
  const behind = dashes === undefined ? {} : { afterDashes: operands.slice(dashes) };
  return { options: values as OptionValues<Table>, operands, inOrder, ...behind };
}

interface Spelling {
  readonly key: string;
  readonly row: OptionRow;
}

/** Every way to write an option: its letter, its long name, and what of the long name is unique. */
function spell(table: OptionTable): ReadonlyMap<string, Spelling> {
  const spellings = new Map<string, Spelling>();
  const ambiguous = new Set<string>();
  const rows = [...Object.entries(table), ['help', helpRow] as const];
  for (const [key, row] of rows) {
    if (row.letter !== undefined) spellings.set(`-${row.letter}`, { key, row });
    for (let length = 1; length < (row.name?.length ?? 0); length++) {
      const short = `--${row.name?.slice(0, length)}`;
      if (spellings.has(short)) ambiguous.add(short);
      spellings.set(short, { key, row });
    }
  }
  for (const short of ambiguous) spellings.delete(short);
  for (const [key, row] of rows) if (row.name !== undefined) spellings.set(`--${row.name}`, { key, row });
  return spellings;
}

function parserOptions(spellings: ReadonlyMap<string, Spelling>) {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string }> = {};
  for (const [spelling, { row }] of spellings) {
    const type = row.value === undefined ? 'boolean' : 'string';
    if (spelling.startsWith('--')) options[spelling.slice(2)] = { type };
    else options[spelling] = { type, short: spelling.slice(1) };
  }
  return options;
}

function keep(
  values: Record<string, unknown>,
  { key, row }: Spelling,
  text: string | undefined,
  word: string | undefined,
): void {
  if (row.value === undefined) {
    row.read?.('');
    if (row.many) (values[key] as unknown[]).push(true);
    else values[key] = true;
    return;
  }
  if (text === undefined) {
    throw new UsageError(`missing argument for option '${word}'`, { pointToHelp: true });
  }
  const value = row.read ? row.read(text) : text;
  if (row.many) (values[key] as unknown[]).push(value);
  else values[key] = value;
}

/** The lines of a help that list a table's options, two columns, sorted by letter and name. */
export function describeOptions(table: OptionTable): string {
  const rows = [...Object.values(table), helpRow].map((row) => [synopsis(row), row.help] as const);
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows.map(([left, help]) => `  ${left.padEnd(width)}${help}\n`).join('');
}

function synopsis({ letter, name, value }: OptionRow): string {
  const short = letter === undefined ? '    ' : name === undefined ? `-${letter}` : `-${letter}, `;
  const long = name === undefined ? '' : `--${name}`;
  const placeholder = value === undefined ? '' : name === undefined ? ` ${value}` : `=${value}`;
  return short + long + placeholder;
}
