/**
 * Reading and writing all of a buffer through the thread pool.
 *
 * The kernel may read or write less than it was asked for and report nothing, at the end of the space for
 * one, so calls are repeated until all is done or one fails. This is the only file of Strata that calls
 * `fs.write`. Callbacks, because the promises of a FileHandle cost ten times a cached read.
 */
import { read as fsRead, write as fsWrite } from 'node:fs';

/** Called once, with the error of the call that failed. */
export type Done = (error: Error | null) => void;

/** The most bytes of one system call: Linux and Node both stop short of 2 GiB. */
const LONGEST_CALL = 1 << 30;

/** Reads the first `length` bytes of `into` from `offset`; what lies past the end of the file becomes zeros. */
export function readAll(fd: number, into: Uint8Array, length: number, offset: number, done: Done): void {
  let at = 0;
  const next = (): void => {
    if (at === length) done(null);
    else fsRead(fd, into, at, Math.min(length - at, LONGEST_CALL), offset + at, advance);
  };
  const advance = (error: Error | null, got: number): void => {
    if (error) {
      done(error);
    } else if (got === 0) {
      into.fill(0, at, length);
      done(null);
    } else {
      at += got;
      next();
    }
  };
  next();
}

/** Writes the first `length` bytes of `from` at `offset`. After a failure, part of them may have been written. */
export function writeAll(fd: number, from: Uint8Array, length: number, offset: number, done: Done): void {
  let at = 0;
  const next = (): void => {
    if (at === length) done(null);
    else fsWrite(fd, from, at, Math.min(length - at, LONGEST_CALL), offset + at, advance);
  };
  const advance = (error: Error | null, written: number): void => {
    if (error) {
      done(error);
    } else {
      at += written;
      next();
    }
  };
  next();
}
