/**
 * One message of a client into its reply: what is wrong with it, the negotiation, or the command.
 *
 * Spec: QEMU, "QEMU Machine Protocol Specification", "Issuing Commands", "Commands Responses", "Capabilities Negotiation"
 */
import { isDiskError } from '@strata/block';
import { command, type QmpCommand } from './command.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import { QmpError, type QmpErrorClass, refusal } from './qmp-error.ts';
import { choice, list, optional, readArguments } from './schema.ts';

/** A client, as far as its replies depend on it. */
export interface Peer {
  /** It has sent `qmp_capabilities`: it may give commands, and hears of events. */
  negotiated: boolean;
}

/** What all clients of a server are answered from. */
export interface Desk {
  readonly commands: ReadonlyMap<string, QmpCommand>;
  /** Hears of bugs. */
  report(error: unknown): void;
}

/** The command that ends the negotiation, by name. */
const negotiation = 'qmp_capabilities';

/** The rows of a server by name, with the commands that every server has. @throws {RangeError} for two of one name */
export function commandTable(
  rows: readonly QmpCommand[],
  version: JsonObject,
): ReadonlyMap<string, QmpCommand> {
  const own: readonly QmpCommand[] = [
    command('query-version', {}, () => version),
    command('query-commands', {}, () => Array.from(table.keys(), (name) => ({ name }))),
    command(negotiation, { enable: optional(list(choice('oob'))) }, () => undefined),
  ];
  const table = new Map([...rows, ...own].map((row) => [row.name, row]));
  if (table.size !== rows.length + own.length) throw new RangeError('two commands have one name');
  return table;
}

/** The reply to a message. Never rejects. */
export async function replyTo(message: Json, peer: Peer, desk: Desk): Promise<JsonObject> {
  const id = isObject(message) ? message['id'] : undefined;
  const named = id === undefined ? {} : { id };
  try {
    return { ...named, return: (await outcomeOf(message, peer, desk)) ?? {} };
  } catch (error) {
    return { ...named, ...errorReply(error, desk) };
  }
}

/** The reply that tells of a refusal. */
export function errorReply(error: unknown, desk: Desk): JsonObject {
  if (error instanceof QmpError) return { error: { class: error.kind, desc: error.message } };
  const kind: QmpErrorClass = 'GenericError';
  if (isDiskError(error)) return { error: { class: kind, desc: error.message } };
  desk.report(error);
  return { error: { class: kind, desc: 'the server has failed: this is a bug, and its log tells more' } };
}

async function outcomeOf(message: Json, peer: Peer, desk: Desk): Promise<Json | undefined> {
  const { name, given } = requestOf(message);
  const isNegotiation = name === negotiation;
  if (!peer.negotiated && !isNegotiation) {
    throw new QmpError('CommandNotFound', `Expecting capabilities negotiation with '${negotiation}'`);
  }
  const row = desk.commands.get(name);
  if (row === undefined) throw new QmpError('CommandNotFound', `The command ${name} has not been found`);
  const read = readArguments(row.arguments, given);
  if (isNegotiation) return negotiate(read as { readonly enable?: readonly string[] }, peer);
  return await row.run(read);
}

function negotiate({ enable = [] }: { readonly enable?: readonly string[] }, peer: Peer): undefined {
  if (peer.negotiated) {
    const sentence = 'Capabilities negotiation is already complete, command ignored';
    throw new QmpError('CommandNotFound', sentence);
  }
  // There are none that we offer.
  if (enable.length > 0) throw refusal(`Capability ${enable.join(', ')} not available`);
  peer.negotiated = true;
}

interface Request {
  readonly name: string;
  readonly given: JsonObject;
}

function requestOf(message: Json): Request {
  if (!isObject(message)) throw refusal('QMP input must be a JSON object');
  let name: string | undefined;
  let given: JsonObject = {};
  for (const [member, value] of Object.entries(message)) {
    if (member === 'execute') {
      if (typeof value !== 'string') throw refusal("QMP input member 'execute' must be a string");
      name = value;
    } else if (member === 'arguments') {
      if (!isObject(value)) throw refusal("QMP input member 'arguments' must be an object");
      given = value;
    } else if (member !== 'id') {
      throw refusal(`QMP input member '${member}' is unexpected`);
    }
  }
  if (name === undefined) throw refusal("QMP input lacks member 'execute'");
  return { name, given };
}
