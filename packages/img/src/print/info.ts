/**
 * What `info` prints of one image: qemu-img's lines for people, or its JSON.
 *
 * Texts of an image (names of backing files, snapshots, bitmaps) are printed as they stand in the text form, as
 * qemu-img does, so that scripts find them; JSON escapes them.
 */
import { formatSize } from '@strata/block';
import { isList, type Json, type JsonObject, orderedMembers } from './json.ts';
import { type SnapshotReport, snapshotLines } from './snapshots.ts';

/** The facts of one image. What is undefined is not printed. */
export interface ImageReport {
  readonly filename: string;
  readonly format: string;
  /** Bytes the guest sees. */
  readonly virtualSize: number;
  /** Bytes the host spends on the file; undefined where it does not tell. */
  readonly actualSize: number | undefined;
  readonly clusterSize?: number | undefined;
  /** True: the image was not closed properly. Undefined where a format does not know. */
  readonly dirty?: boolean | undefined;
  readonly encrypted?: boolean | undefined;
  readonly backing?: BackingReport | undefined;
  readonly snapshots?: readonly SnapshotReport[] | undefined;
  /** What only this format has. */
  readonly specific?: JsonObject | undefined;
}

/** What an image records of its backing file. */
export interface BackingReport {
  readonly name: string;
  readonly format: string | undefined;
  /** The name as it would be opened; undefined if there is no way to tell. */
  readonly fullName: string | undefined;
}

/** The report as an object. */
export function infoJson(report: ImageReport): JsonObject {
  const { backing, snapshots = [], specific } = report;
  return {
    filename: report.filename,
    format: report.format,
    'dirty-flag': report.dirty,
    'actual-size': report.actualSize,
    'virtual-size': report.virtualSize,
    'cluster-size': report.clusterSize,
    encrypted: report.encrypted || undefined,
    'backing-filename': backing?.name,
    'full-backing-filename': backing?.fullName,
    'backing-filename-format': backing?.format,
    snapshots: snapshots.length > 0 ? snapshots.map(snapshotJson) : undefined,
    'format-specific': specific && { type: report.format, data: specific },
  };
}

function snapshotJson(snapshot: SnapshotReport): JsonObject {
  return {
    id: snapshot.id,
    name: snapshot.name,
    'vm-state-size': snapshot.vmStateSize,
    'date-sec': snapshot.dateSeconds,
    'date-nsec': snapshot.dateNanoseconds,
    'vm-clock-sec': snapshot.clockSeconds,
    'vm-clock-nsec': snapshot.clockNanoseconds,
    icount: snapshot.icount,
  };
}

/** Prints the report as lines for people, in several pieces if there are many. */
export function printInfo(report: ImageReport, print: (text: string) => void): void {
  const { actualSize, backing, snapshots = [], specific } = report;
  const lines = new Lines(print);
  lines.push(
    `image: ${report.filename}`,
    `file format: ${report.format}`,
    `virtual size: ${formatSize(report.virtualSize)} (${report.virtualSize} bytes)`,
    `disk size: ${actualSize === undefined ? 'unavailable' : formatSize(actualSize)}`,
  );
  if (report.encrypted) lines.push('encrypted: yes');
  if (report.clusterSize !== undefined) lines.push(`cluster_size: ${report.clusterSize}`);
  if (report.dirty) lines.push('cleanly shut down: no');
  if (backing) lines.push(...backingLines(backing));
  for (const line of snapshotLines(snapshots)) lines.push(line);
  if (specific) {
    lines.push('Format specific information:');
    memberLines(specific, 1, lines);
  }
  lines.end();
}

function backingLines({ name, format, fullName }: BackingReport): readonly string[] {
  let line = `backing file: ${name}`;
  if (fullName === undefined) line += ' (cannot determine actual path)';
  else if (fullName !== name) line += ` (actual path: ${fullName})`;
  return format === undefined ? [line] : [line, `backing file format: ${format}`];
}

/** Lines on their way out: there may be very many, and a string by itself is costly. */
class Lines {
  readonly #print: (text: string) => void;
  #lines: string[] = [];

  constructor(print: (text: string) => void) {
    this.#print = print;
  }

  push(...lines: readonly string[]): void {
    this.#lines.push(...lines);
    if (this.#lines.length >= 200) this.end();
  }

  end(): void {
    if (this.#lines.length > 0) this.#print(`${this.#lines.join('\n')}\n`);
    this.#lines = [];
  }
}

/** Puts out an object as indented lines: a dash in a key is shown as a space, elements are numbered. */
function memberLines(object: JsonObject, depth: number, into: Lines): void {
  for (const [key, value] of orderedMembers(object)) valueLines(key.replaceAll('-', ' '), value, depth, into);
}

function valueLines(label: string, value: Json, depth: number, into: Lines): void {
  const head = `${'    '.repeat(depth)}${label}:`;
  if (typeof value !== 'object') {
    into.push(`${head} ${value}`);
    return;
  }
  into.push(head);
  if (!isList(value)) memberLines(value, depth + 1, into);
  else for (const [index, element] of value.entries()) valueLines(`[${index}]`, element, depth + 1, into);
}
