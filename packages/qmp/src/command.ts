/** A command as a row: its name, the arguments it takes, and what it does. */
import type { Json } from './json.ts';
import { type Fields, type Read, record, type Schema } from './schema.ts';

/** What a server can be told to do. */
export interface QmpCommand {
  readonly name: string;
  readonly arguments: Schema<unknown>;
  /**
   * Does it. Commands of all clients run one after the other. What it resolves to is the reply, `{}` if nothing.
   *
   * @throws {QmpError} and DiskErrors, whose message becomes the reply
   */
  run(given: unknown): Promise<Json | undefined>;
}

/** A command with these arguments. */
export function command<F extends Fields>(
  name: string,
  fields: F,
  run: (given: Read<F>) => Promise<Json | undefined> | Json | undefined,
): QmpCommand {
  return commandOf(name, record(fields), run);
}

/** A command whose arguments are more than a list of members. */
export function commandOf<T>(
  name: string,
  schema: Schema<T>,
  run: (given: T) => Promise<Json | undefined> | Json | undefined,
): QmpCommand {
  // What is handed to `run` was read by this very schema.
  return { name, arguments: schema, run: async (given) => await run(given as T) };
}
