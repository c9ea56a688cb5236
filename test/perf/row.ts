/** A row of the benchmark: what was measured, against whom, and what must hold. */

/** Our figure over a peer's. */
export interface Row {
  readonly work: string;
  readonly peer: string;
  /** Ours divided by the peer's, so turned that more is better for us when `better` is `more`. */
  readonly ratio: number;
  readonly better: 'more' | 'less';
  /** The bound that `ratio` must keep; undefined: told, not judged. */
  readonly bound?: number;
}

/** True unless the row misses its bound. */
export function holds({ ratio, better, bound }: Row): boolean {
  if (bound === undefined) return true;
  return better === 'more' ? ratio >= bound : ratio <= bound;
}

/** The row as a line of a table. */
export function line(row: Row): string {
  const bound = row.bound === undefined ? '' : `${row.better === 'more' ? '>=' : '<='} ${row.bound}`;
  const verdict = row.bound === undefined ? '' : holds(row) ? 'holds' : 'MISSED';
  return `${row.work.padEnd(44)} ${row.peer.padEnd(12)} ${row.ratio.toFixed(2).padStart(6)}  ${bound.padEnd(8)} ${verdict}`.trimEnd();
}
