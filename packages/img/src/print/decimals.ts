/**
 * Numbers with two decimals, rounded as the C library rounds them.
 *
 * `toFixed` rounds a tie up, `printf` rounds it to the even digit: 1 of 32 clusters is 3.125 %, and QEMU's tools
 * print 3.12.
 */

/** As `%.2f` prints it. @param value 0 or more */
export function twoDecimals(value: number): string {
  const isTie = Number.isInteger(value * 8) && Number.isInteger(value * 200) && (value * 200) % 2 === 1;
  if (!isTie) return value.toFixed(2);
  const below = Math.floor(value * 100);
  return ((below % 2 === 0 ? below : below + 1) / 100).toFixed(2);
}
