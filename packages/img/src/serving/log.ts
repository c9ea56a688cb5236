/**
 * The log of a server: an event a line, as JSON for programs or as text for people.
 *
 * A line is one write of one object: no library is needed for that, and none has to be loaded. Names are the
 * clients' to choose, so control characters never reach the text.
 */
import { openSync, writeSync } from 'node:fs';
import type { ClientReport, ServerObserver } from '@strata/nbd';
import { CommandError, programName } from '../report.ts';
import type { Terminal } from '../terminal.ts';
import type { ServeOptions } from './options.ts';

/** What happened, beside the time and the event's name. */
export type Details = Readonly<
  Record<string, string | number | readonly string[] | Readonly<Record<string, number>> | undefined>
>;

/** Takes events. */
export interface ServerLog extends ServerObserver {
  info(event: string, details?: Details): void;
  error(event: string, details: Details): void;
}

/** The log that the options ask for; without one, errors alone are told, as complaints. @throws {CommandError} */
export function openLog(
  { verbose, logFormat, logFile }: Pick<ServeOptions, 'verbose' | 'logFormat' | 'logFile'>,
  terminal: Terminal,
): ServerLog {
  const isOn = verbose === true || logFormat !== undefined || logFile !== undefined;
  const write = logFile === undefined ? (line: string) => terminal.warn(line) : appendTo(logFile);
  const format = logFormat === 'json' ? jsonLine : textLine;
  const info: ServerLog['info'] = (event, details = {}) => {
    if (isOn) write(format('info', event, details));
  };
  return {
    info,
    error: (event, details) => write(format('error', event, details)),
    connected: (client) => info('connected', clientDetails(client)),
    entered: (client) => info('entered', { ...clientDetails(client), export: client.session?.exportName }),
    left: (client) => info('left', { ...clientDetails(client), ...sessionDetails(client) }),
  };
}

function clientDetails({ id, peer }: ClientReport): Details {
  return { client: id, peer };
}

function sessionDetails({ session, cutOff }: ClientReport): Details {
  if (session === undefined) return { reason: cutOff };
  const { exportName, counters } = session;
  const { failed, read, written } = counters;
  return { export: exportName, requests: counters.requests(), failed, read, written, reason: cutOff };
}

function jsonLine(level: string, event: string, details: Details): string {
  return `${JSON.stringify({ time: new Date().toISOString(), level, event, ...details })}\n`;
}

function textLine(_level: string, event: string, details: Details): string {
  const words = Object.entries(details).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`],
  );
  return `${[`${programName}:`, event, ...words].join(' ').replace(controls, escaped)}\n`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is made visible
const controls = /[\x00-\x1f\x7f-\x9f]/g;
const escaped = (character: string): string => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;

function appendTo(path: string): (line: string) => void {
  try {
    const file = openSync(path, 'a', 0o600);
    return (line) => void writeSync(file, line);
  } catch (error) {
    throw new CommandError(`Could not open '${path}': ${(error as Error).message}`, { cause: error });
  }
}
