/**
 * The command: finds the verb, reads its line, runs it, and turns what went wrong into a sentence and a status.
 *
 * A verb's code is loaded when it is asked for, so that a small answer starts fast.
 */
import type { Command } from './command.ts';
import { makeObjects, type Objects } from './objects/objects.ts';
import { describeOptions, parseLine } from './options.ts';
import { CommandError, programName, reportFailure, UsageError } from './report.ts';
import type { Terminal } from './terminal.ts';
import type { ThreadUse } from './threads.ts';
import { version } from './version.ts';

/** Every verb, in the order of the help. A new one is a line here and a file in `commands/`. */
const verbs: Readonly<Record<string, () => Promise<Command>>> = {
  create: async () => (await import('./commands/create.ts')).create,
  info: async () => (await import('./commands/info.ts')).info,
  map: async () => (await import('./commands/map.ts')).map,
  commit: async () => (await import('./commands/commit.ts')).commit,
  rebase: async () => (await import('./commands/rebase.ts')).rebase,
  convert: async () => (await import('./commands/convert.ts')).convert,
  dd: async () => (await import('./commands/dd.ts')).dd,
  compare: async () => (await import('./commands/compare.ts')).compare,
  check: async () => (await import('./commands/check.ts')).check,
  snapshot: async () => (await import('./commands/snapshot.ts')).snapshot,
  measure: async () => (await import('./commands/measure.ts')).measure,
  bitmap: async () => (await import('./commands/bitmap.ts')).bitmap,
  amend: async () => (await import('./commands/amend.ts')).amend,
  resize: async () => (await import('./commands/resize.ts')).resize,
  backup: async () => (await import('./commands/backup.ts')).backup,
  restore: async () => (await import('./commands/restore.ts')).restore,
  checkpoint: async () => (await import('./commands/checkpoint.ts')).checkpoint,
  serve: async () => (await import('./commands/serve.ts')).serve,
  ctl: async () => (await import('./commands/ctl.ts')).ctl,
};

/** Verbs of qemu-img that are not here. */
const absentVerbs: ReadonlySet<string> = new Set(['bench']);

/**
 * Runs one command line, without the program's name. Resolves to the exit status and never rejects. `prepareThreads`
 * is told what the thread pool will have to do, before it is used.
 */
export async function main(
  words: readonly string[],
  terminal: Terminal,
  prepareThreads?: (use: ThreadUse) => void,
): Promise<number> {
  try {
    return await dispatch(words, terminal, prepareThreads);
  } catch (error) {
    return reportFailure(terminal, error);
  }
}

async function dispatch(
  [name, ...words]: readonly string[],
  terminal: Terminal,
  prepareThreads?: (use: ThreadUse) => void,
): Promise<number> {
  if (name === undefined) throw new UsageError('Not enough arguments', { pointToHelp: true });
  if (name === '-h' || isPrefixOf(name, '--help')) return print(terminal, await overview());
  if (name === '-V' || isPrefixOf(name, '--version')) return print(terminal, `${programName} ${version}\n`);
  if (name.startsWith('-')) throw new UsageError(`unrecognized option '${name}'`, { pointToHelp: true });
  const load = Object.hasOwn(verbs, name) ? verbs[name] : undefined;
  if (!load && absentVerbs.has(name)) throw new CommandError(`command '${name}' is not supported yet`);
  if (!load) throw new UsageError(`Command not found: ${name}`, { pointToHelp: true });
  const verb = await load();
  const last = verb.endsWithOperand && words.length > 1 ? words.slice(-1) : [];
  const line = parseLine(verb.options, words.slice(0, words.length - last.length));
  if (line === 'help') return print(terminal, help(name, verb));
  prepareThreads?.(verb.threads?.(line.options) ?? 'serving');
  const objects = await objectsOf(verb, (line.options['objects'] ?? []) as readonly string[]);
  return await verb.run({ ...line, operands: [...line.operands, ...last], objects }, terminal);
}

/** What `--object` defined. @throws {CommandError} with the status that the verb has for it */
async function objectsOf({ objectFailure: status }: Command, texts: readonly string[]): Promise<Objects> {
  try {
    return await makeObjects(texts);
  } catch (error) {
    if (status === undefined || !(error instanceof CommandError)) throw error;
    throw new CommandError(error.message, { status, hint: error.hint, cause: error });
  }
}

function isPrefixOf(word: string, option: string): boolean {
  return word.length > 2 && option.startsWith(word);
}

function print(terminal: Terminal, text: string): number {
  terminal.print(text);
  return 0;
}

async function overview(): Promise<string> {
  const lines = await Promise.all(
    Object.entries(verbs).map(async ([name, load]) => `  ${name.padEnd(11)}${(await load()).summary}\n`),
  );
  return [
    `Usage: ${programName} COMMAND [OPTION]... FILE...\n`,
    'Creates, inspects, converts and serves virtual disk images and their chains.\n\n',
    'Commands:\n',
    ...lines,
    `\n'${programName} COMMAND --help' lists the options of a command. '${programName} --version' prints the version.\n`,
    'A FILE may be an NBD export: nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=PATH.\n',
  ].join('');
}

function help(name: string, verb: Command): string {
  const usage = `Usage: ${programName} ${name} [OPTION]... ${verb.operands}\n${verb.summary}.\n`;
  const notes = verb.notes === undefined ? '' : `\n${verb.notes}`;
  return `${usage}\nOptions:\n${describeOptions(verb.options)}${notes}`;
}
