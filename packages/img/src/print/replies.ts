/** Replies of a steered server for people: tables where a list has few facts a row, JSON for all else. */
import { formatSize } from '@strata/block';

type Row = Readonly<Record<string, unknown>>;

const tables: Readonly<Record<string, (rows: readonly Row[]) => readonly (readonly string[])[]>> = {
  'query-block-exports': (rows) => [
    ['ID', 'NODE', 'TYPE', 'STATE'],
    ...rows.map((row) => [
      text(row['id']),
      text(row['node-name']),
      text(row['type']),
      row['shutting-down'] === true ? 'shutting down' : 'offered',
    ]),
  ],
  'query-jobs': (rows) => [
    ['ID', 'TYPE', 'STATUS', 'PROGRESS'],
    ...rows.map((row) => [
      text(row['id']),
      text(row['type']),
      text(row['status']),
      `${text(row['current-progress'])}/${text(row['total-progress'])}`,
    ]),
  ],
  'query-commands': (rows) =>
    rows
      .map((row) => text(row['name']))
      .sort()
      .map((name) => [name]),
  'query-named-block-nodes': (rows) => [
    ['NODE', 'DRIVER', 'ACCESS', 'SIZE', 'BITMAPS', 'FILE'],
    ...rows.map((row) => [
      text(row['node-name']),
      text(row['drv']),
      row['ro'] === true ? 'read' : 'write',
      sizeOf(row['image']),
      bitmapsOf(row['dirty-bitmaps']),
      text(row['file']),
    ]),
  ],
};

/** The reply to a command as a table; undefined if it has no such form. */
export function replyText(command: string, reply: unknown): string | undefined {
  const table = Object.hasOwn(tables, command) ? tables[command] : undefined;
  if (table === undefined || !Array.isArray(reply) || !reply.every(isRow)) return undefined;
  const rows = table(reply);
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** The reply as JSON, a member a line. */
export function replyJson(reply: unknown): string {
  const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? Number(value) : value);
  return `${JSON.stringify(reply, plain, 4)}\n`;
}

function isRow(value: unknown): value is Row {
  return typeof value === 'object' && value !== null;
}

/** Names come out of images: what would move the cursor is shown as it is written in JSON. */
function text(value: unknown): string {
  const plain = typeof value === 'string' || typeof value === 'number' ? String(value) : '-';
  return plain.replace(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1));
}

function sizeOf(image: unknown): string {
  const size = isRow(image) ? image['virtual-size'] : undefined;
  return typeof size === 'number' ? formatSize(size) : '-';
}

function bitmapsOf(bitmaps: unknown): string {
  if (!Array.isArray(bitmaps) || bitmaps.length === 0) return '-';
  return bitmaps.map((each: unknown) => text(isRow(each) ? each['name'] : undefined)).join(',');
}
