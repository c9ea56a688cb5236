/** The list of an image's dirty bitmaps: ours, for qemu-img has none. */
import type { BitmapFacts } from '@strata/bitmap';
import { formatSize } from '@strata/block';

/** A bitmap, and how many bytes of the disk are dirty; undefined if nobody knows. */
export interface ListedBitmap extends BitmapFacts {
  readonly count: number | undefined;
}

/** The lines of the list; none if there is no bitmap. */
export function bitmapLines(bitmaps: readonly ListedBitmap[]): string {
  if (bitmaps.length === 0) return '';
  const rows = bitmaps.map(({ name, granularity, enabled, inconsistent, count }) => [
    name,
    formatSize(granularity),
    inconsistent ? 'inconsistent' : enabled ? 'recording' : 'disabled',
    count === undefined ? '-' : `${count} (${formatSize(count)})`,
  ]);
  const table = [['NAME', 'GRANULARITY', 'STATE', 'DIRTY'], ...rows];
  const widths = [0, 1, 2].map(
    (column) => Math.max(...table.map((row) => (row[column] as string).length)) + 2,
  );
  return table
    .map((row) => `${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('')}\n`)
    .join('');
}
