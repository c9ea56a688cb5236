/**
 * `-l SNAPSHOT` of the commands that read one: an id, a name, or `snapshot.id=ID,snapshot.name=NAME`.
 *
 * As qemu-img reads it: a word that begins with `snapshot.` is a list of options, everything else is looked for
 * among the ids first and then among the names.
 */
import type { SnapshotChoice } from '@strata/block';
import type { OptionRow } from './options.ts';
import { UsageError } from './report.ts';

const prefix = 'snapshot.';

/** Reads the value of `-l`. @throws {UsageError} */
function readSnapshotChoice(text: string): SnapshotChoice {
  if (!text.startsWith(prefix)) return { idOrName: text };
  const found: { id: string | undefined; name: string | undefined } = { id: undefined, name: undefined };
  // A comma in a value is doubled.
  for (const part of text.split(/(?<!,),(?!,)/)) {
    const [key = '', ...rest] = part.split('=');
    const field = key.slice(prefix.length);
    if (!key.startsWith(prefix) || rest.length === 0 || (field !== 'id' && field !== 'name')) {
      throw new UsageError([`Invalid parameter '${key}'`, `Failed in parsing snapshot param '${text}'`]);
    }
    found[field] = rest.join('=').replaceAll(',,', ',');
  }
  return found;
}

/** `-l SNAPSHOT`. */
export const snapshotRow = {
  letter: 'l',
  value: 'SNAPSHOT',
  help: 'read an internal snapshot: its id or name, or snapshot.id=ID,snapshot.name=NAME',
  read: readSnapshotChoice,
} as const satisfies OptionRow;
