/**
 * The manifest of a layer: what a backup is of, at which checkpoint it was taken, what it builds upon, and how its
 * file is known again. A small JSON file beside the layer.
 *
 * It is hostile when it is read: bounded, every field judged, unknown versions refused, names plain names inside
 * the folder. `sum` tells a manifest that somebody changed from one that we wrote; it is no protection against who
 * can compute it.
 */
import { createHash } from 'node:crypto';
import { DiskError } from '@strata/block';

/** The longest manifest that is read. */
export const longestManifest = 1 << 18;
const version = 1;
const longestText = 4096;
const mostBitmaps = 1000;

/** How a file is known again. */
export interface FileIdentity {
  /** In bytes. */
  readonly length: number;
  /** Of all its bytes, in hexadecimal. */
  readonly sha256: string;
  /** When it was last written, in nanoseconds of 1970: a file whose time is another is looked at whole. */
  readonly modified: string;
}

/** What one backup is. */
export interface Manifest {
  /** Place in the folder, from 1 on; the layer is `layerName` of it. */
  readonly number: number;
  /** Bytes of the disk. */
  readonly size: number;
  /** The backup under it; undefined: a full one. */
  readonly parent: { readonly number: number; readonly sha256: string } | undefined;
  /** What the user called the source. */
  readonly source: string;
  /** The checkpoint whose state it holds; undefined: none was named, and no backup can build upon it. */
  readonly checkpoint: string | undefined;
  /** The bitmaps that told what changed since the parent; none of a full one. */
  readonly bitmaps: readonly string[];
  /** The source held one point in time while it was copied. */
  readonly frozen: boolean;
  /** When it ended, as ISO 8601. */
  readonly time: string;
  readonly file: FileIdentity;
}

/** The file of a backup. */
export function layerName(number: number): string {
  return `${String(number).padStart(4, '0')}.qcow2`;
}

/** The file of its manifest. */
export function manifestName(number: number): string {
  return `${String(number).padStart(4, '0')}.json`;
}

/** The number of the backup whose manifest is called `name`; undefined for other names. */
export function numberOfManifest(name: string): number | undefined {
  const digits = /^(\d{4,9})\.json$/.exec(name)?.[1];
  const number = Number(digits);
  return digits !== undefined && number > 0 && manifestName(number) === name ? number : undefined;
}

/** The text of a manifest. */
export function formatManifest(manifest: Manifest): string {
  const fields = fieldsOf(manifest);
  return `${JSON.stringify({ ...fields, sum: sumOf(fields) }, undefined, 2)}\n`;
}

/** The fields in their order, as they are written and summed. */
function fieldsOf({ number, size, parent, source, checkpoint, bitmaps, frozen, time, file }: Manifest) {
  return {
    'strata-backup': version,
    number,
    layer: {
      name: layerName(number),
      format: 'qcow2',
      length: file.length,
      sha256: file.sha256,
      modified: file.modified,
    },
    parent: parent === undefined ? null : { layer: layerName(parent.number), sha256: parent.sha256 },
    source: { name: source, size },
    checkpoint: checkpoint ?? null,
    bitmaps,
    frozen,
    time,
  };
}

function sumOf(fields: object): string {
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex');
}

/**
 * Reads the manifest of backup `number`.
 *
 * @throws {DiskError} corrupt, limit, not-supported for a version that is not known
 */
export function parseManifest(text: string, number: number): Manifest {
  if (text.length > longestManifest)
    throw new DiskError('limit', `a manifest of more than ${longestManifest} bytes`);
  const root = objectIn(parseJson(text), 'it');
  const known = integerIn(root['strata-backup'], "'strata-backup'");
  if (known !== version)
    throw new DiskError('not-supported', `version ${known} of backup manifests is not known here`);
  const layer = objectIn(root['layer'], "'layer'");
  const source = objectIn(root['source'], "'source'");
  const manifest: Manifest = {
    number: integerIn(root['number'], "'number'"),
    size: integerIn(source['size'], "'source.size'"),
    parent: root['parent'] === null ? undefined : parentIn(root['parent'], number),
    source: textIn(source['name'], "'source.name'"),
    checkpoint: root['checkpoint'] === null ? undefined : textIn(root['checkpoint'], "'checkpoint'"),
    bitmaps: listIn(root['bitmaps'], "'bitmaps'").map((name) => textIn(name, "'bitmaps'")),
    frozen: root['frozen'] === true,
    time: timeIn(root['time']),
    file: {
      length: integerIn(layer['length'], "'layer.length'"),
      sha256: digestIn(layer['sha256'], "'layer.sha256'"),
      modified: matching(layer['modified'], /^\d{1,20}$/, "'layer.modified'"),
    },
  };
  if (manifest.number !== number) throw wrong("'number'", 'is not that of the file');
  if (layer['name'] !== layerName(number)) throw wrong("'layer.name'", `is not '${layerName(number)}'`);
  if (layer['format'] !== 'qcow2') throw wrong("'layer.format'", "is not 'qcow2'");
  if (typeof root['frozen'] !== 'boolean') throw wrong("'frozen'", 'is neither true nor false');
  const isFull = manifest.parent === undefined;
  if (isFull !== (manifest.bitmaps.length === 0)) throw wrong("'bitmaps'", "does not go with 'parent'");
  if (root['sum'] !== sumOf(fieldsOf(manifest))) throw wrong('it', 'was changed after it was written');
  return manifest;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DiskError('corrupt', 'the manifest is not JSON', { cause });
  }
}

/** A parent comes before its child, so that a chain of them ends. */
function parentIn(value: unknown, child: number): Manifest['parent'] {
  const parent = objectIn(value, "'parent'");
  const name = textIn(parent['layer'], "'parent.layer'");
  const number = Number(/^(\d{4,9})\.qcow2$/.exec(name)?.[1]);
  if (!(number > 0) || layerName(number) !== name)
    throw wrong("'parent.layer'", 'is not the name of a layer');
  if (number >= child) throw wrong("'parent.layer'", 'is not an earlier one');
  return { number, sha256: digestIn(parent['sha256'], "'parent.sha256'") };
}

function wrong(what: string, why: string): DiskError {
  return new DiskError('corrupt', `the manifest is not right: ${what} ${why}`);
}

function objectIn(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw wrong(what, 'is not an object');
}

function listIn(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value) && value.length <= mostBitmaps) return value;
  throw wrong(what, `is not a list of at most ${mostBitmaps}`);
}

function integerIn(value: unknown, what: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw wrong(what, 'is not a number from 0 to 2^53 - 1');
}

function textIn(value: unknown, what: string): string {
  if (typeof value === 'string' && value.length > 0 && value.length <= longestText) return value;
  throw wrong(what, `is not a text of 1 to ${longestText} characters`);
}

function matching(value: unknown, shape: RegExp, what: string): string {
  const text = textIn(value, what);
  if (shape.test(text)) return text;
  throw wrong(what, 'has not the form that it should have');
}

function digestIn(value: unknown, what: string): string {
  return matching(value, /^[0-9a-f]{64}$/, what);
}

function timeIn(value: unknown): string {
  return matching(value, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, "'time'");
}
