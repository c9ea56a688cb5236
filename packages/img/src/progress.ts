/**
 * How far a command is, for `-p`.
 *
 * On a terminal: a bar with percent, rate and the time that is left, redrawn in place. Anywhere else:
 * qemu-img's line, `    (12.34/100%)` and a carriage return, which scripts read; like there it is printed at
 * 0, at 100, and when more than `step` percent went by, and the line is ended once.
 */
import { twoDecimals } from './print/decimals.ts';
import type { Terminal } from './terminal.ts';

/** Shows progress from its making to `end`. */
export interface Progress {
  /** @param total may be 0, which counts as done; it may change from call to call. */
  update(done: number, total: number): void;
  /** Shows 100 %. */
  complete(): void;
  /** Ends the line. */
  end(): void;
}

/** Shows nothing: a command without `-p`, or with `-q`. */
export const silentProgress: Progress = {
  update: () => undefined,
  complete: () => undefined,
  end: () => undefined,
};

/** Starts at 0 %. @param step percent between two lines of the plain form */
export function showProgress(terminal: Terminal, step: number): Progress {
  return terminal.live ? liveProgress(terminal) : plainProgress(terminal, step);
}

function percentOf(done: number, total: number): number {
  return total > 0 ? Math.min(100, (done * 100) / total) : 100;
}

function plainProgress(terminal: Terminal, step: number): Progress {
  let printed = 0;
  const print = (percent: number): void => {
    printed = percent;
    terminal.print(`    (${twoDecimals(percent)}/100%)\r`);
  };
  print(0);
  const show = (percent: number): void => {
    if (Math.abs(percent - printed) > step || percent === 100 || percent === 0) print(percent);
  };
  return {
    update: (done, total) => show(percentOf(done, total)),
    complete: () => show(100),
    end: () => terminal.print('\n'),
  };
}

const barWidth = 30;
const redrawMs = 100;

/** @param now milliseconds; a test turns the clock itself */
export function liveProgress(terminal: Terminal, now: () => number = () => performance.now()): Progress {
  const start = now();
  let drawn = Number.NEGATIVE_INFINITY;
  let last = { done: 0, total: 0 };
  const draw = (done: number, total: number): void => {
    const percent = percentOf(done, total);
    const seconds = (now() - start) / 1000;
    const filled = Math.floor((percent / 100) * barWidth);
    const bar = '#'.repeat(filled) + '-'.repeat(barWidth - filled);
    const rate = seconds > 0 ? done / seconds : 0;
    const left = rate > 0 ? (total - done) / rate : Number.POSITIVE_INFINITY;
    const tail =
      total > 0
        ? `  ${formatRate(rate)}  ${percent < 100 ? `ETA ${formatTime(left)}` : formatTime(seconds)}`
        : '';
    // The end of the former line is wiped, since the new one may be shorter.
    terminal.print(`\r[${bar}] ${percent.toFixed(1).padStart(5)}%${tail}\x1b[K`);
    drawn = now();
  };
  draw(0, 0.1);
  return {
    update: (done, total) => {
      last = { done, total };
      if (now() - drawn >= redrawMs) draw(done, total);
    },
    complete: () => draw(last.total, last.total),
    end: () => terminal.print('\n'),
  };
}

function formatRate(bytesPerSecond: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytesPerSecond;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(value < 10 && unit > 0 ? 1 : 0)} ${units[unit]}/s`;
}

function formatTime(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds > 359_999) return '--:--';
  const whole = Math.ceil(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [hours, minutes, rest] = parts.map((part) => String(part).padStart(2, '0'));
  return hours === '00' ? `${minutes}:${rest}` : `${hours}:${minutes}:${rest}`;
}
