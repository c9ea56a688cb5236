/**
 * Sizes as people write and read them: `10G` on a command line, `10 GiB` in a report.
 *
 * Reading follows QEMU's qemu_strtosz: powers of 1024, one letter, fractions only with a letter, no
 * exponents. Writing follows its size_to_str: three significant digits, the next unit from 1000 on.
 */

const SUFFIXES = 'bkmgtpe';

/** Why a text is not a size. */
export type SizeProblem = 'malformed' | 'out of range';

const PATTERN = /^[ \t\n\v\f\r]*\+?(?:0x([0-9a-f]+)|(\d+)(?:\.(\d*))?)([bkmgtpe]?)$/i;

/** Bytes that a text such as `10G`, `1.5M`, `512` or `0x200` stands for. Sizes above 2^53 - 1 are out of range. */
export function parseSize(text: string): number | SizeProblem {
  const match = PATTERN.exec(text);
  if (match === null) return 'malformed';
  const [, hexadecimal, whole, fraction, suffix] = match;
  const unit = 1024 ** Math.max(SUFFIXES.indexOf((suffix || 'b').toLowerCase()), 0);
  const part = Number(`0.${fraction || '0'}`);
  if (part > 0 && unit === 1) return 'malformed';
  const units = hexadecimal === undefined ? Number(whole) : Number(`0x${hexadecimal}`);
  const bytes = units * unit + Math.floor(part * unit);
  return Number.isSafeInteger(units) && Number.isSafeInteger(bytes) ? bytes : 'out of range';
}

/** What qemu-img says of a size that is none. `what` is its word for the number: `image size`. */
export function sizeSentence(what: string, problem: SizeProblem, most = Number.MAX_SAFE_INTEGER): string {
  if (problem === 'out of range') return `Invalid ${what} specified. Must be between 0 and ${most}.`;
  return (
    `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\n` +
    'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.'
  );
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** A size in the unit that suits it: `10 GiB`, `1.5 KiB`, `0.977 MiB`. */
export function formatSize(bytes: number): string {
  let power = 0;
  while (power + 1 < UNITS.length && bytes / 1000 >= 1024 ** power) power++;
  return `${threeDigits(bytes / 1024 ** power)} ${UNITS[power]}`;
}

/** The same with the number of bytes, as `info` prints it: `10 GiB (10737418240 bytes)`. */
export function formatSizeAndBytes(bytes: number): string {
  return `${formatSize(bytes)} (${bytes} bytes)`;
}

/** What C's printf makes of `%0.3g`: a tie goes to the even digit, where `toPrecision` goes up. */
function threeDigits(value: number): string {
  const unit = value < 1 ? 1000 : value < 10 ? 100 : value < 100 ? 10 : 1;
  const down = Math.floor(value * unit);
  const rounded = value * unit - down === 0.5 && down % 2 === 0 ? down / unit : value;
  const [mantissa = '', exponent] = rounded.toPrecision(3).split('e');
  const digits = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa;
  if (exponent === undefined) return digits;
  return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
}

/** The largest multiple of `alignment` that is at most `value`. */
export function alignDown(value: number, alignment: number): number {
  return value - (value % alignment);
}

/** The smallest multiple of `alignment` that is at least `value`. */
export function alignUp(value: number, alignment: number): number {
  const over = value % alignment;
  return over === 0 ? value : value + alignment - over;
}
